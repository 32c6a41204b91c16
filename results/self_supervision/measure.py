"""What results/self_supervision/README.md reports, a part at a time; what is there already is not done again.

    python results/self_supervision/measure.py ROW FOLDER --eps 8/255 -n 200
    python results/self_supervision/table.py runs/self_supervision

FOLDER is what `vallum harden ... --with self_supervision` left, ROW one of those of the table. Every row meets the same
images, and attacks that begin at the same points.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import controls
import torch
from worst_case import Points, attacked

import vallum
from vallum.defences import Defence
from vallum.defences.cost import cost_of
from vallum.defences.self_supervision import SelfSupervised
from vallum.images import Batch
from vallum.models.model import Model

HERE = Path(__file__).parent
ROWS = ("static", "noise", "views", "contrastive", "rotation", "inpainting", "shuffled", "fast", "paper", "amortised")


def row(name: str, folder: str, knobs: dict[str, str]) -> Model:
    """The defence that a row of the table is about, or the model without any."""
    defence = vallum.load_model(folder)
    if name == "static" and not isinstance(defence, Defence):
        return defence
    assert isinstance(defence, SelfSupervised), "a folder that was hardened with self_supervision is needed"
    defence = defence.tuned(**knobs)
    if name == "static":
        return defence.bare
    if name == "noise":
        return controls.OnlyNoise(defence.bare, defence.how.budget)
    if name == "views":
        return controls.ManyViews(defence.bare, 41)
    if name == "shuffled":
        return controls.shuffled(defence, vallum.load_data("builtin:signs?split=train").batch(range(512)).images)
    if name in ("contrastive", "rotation", "inpainting"):
        return controls.only(defence, name)
    return defence


def shorter(defence: SelfSupervised) -> SelfSupervised:
    """What is searched on in place of forty steps; the found is judged by all of them."""
    if defence.how.steps <= 10:
        return defence
    short = defence.tuned(steps=5, step_size=2 * defence.how.budget / 5)
    short.average_over = 2
    return short


def measure(label: str, model: Model, batch: Batch, eps: str, given: argparse.Namespace) -> None:
    """A file for these images; one that is there is not made again."""
    name = eps.replace("/", "_")
    path = given.out / f"{label}-{name}-{given.first}.json"
    if path.exists():
        return
    above, below = (float(one) for one in eps.split("/"))
    radius, begun = above / below, time.process_time()
    cache = given.out / "points" / f"{given.points}-{name}-{given.first}-{len(batch)}.pt"
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        bare = model.bare if isinstance(model, Defence) else model
        torch.save(vars(Points.on(bare, batch, radius)), cache)
    points, before = Points(**torch.load(cache)), time.process_time()
    names = None if given.surfaces == "all" else given.surfaces.split(",") if given.surfaces else []
    verdicts = attacked(
        model, batch, radius, points, names, given.steps, given.losses.split(","), given.cascade, given.draws,
        given.queries, shorter,
    )  # fmt: skip
    took = {"points": round(before - begun, 1), "defence": round(time.process_time() - before, 1)}
    settings = {key: getattr(given, key) for key in ("steps", "losses", "cascade", "draws", "queries")}
    cost = cost_of(model, model.bare, batch.images[:4], rounds=1).passes if isinstance(model, Defence) else 1.0
    found = {"keys": batch.keys.tolist(), "passes": cost, "seconds": took, **settings, "right": verdicts}
    path.write_text(json.dumps(found))
    print(label, eps, took, {name: round(sum(v) / len(v), 4) for name, v in verdicts.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("folder")
    parser.add_argument("--first", type=int, default=0, help="image")
    parser.add_argument("-n", type=int, default=100, help="images from the first on; a file for each call")
    parser.add_argument("--data", default="builtin:signs?split=test")
    parser.add_argument("--eps", default="8/255", help="one or several, joined by commas")
    parser.add_argument("--tune", default="", help="knobs of the repair, as budget=2/255,steps=3")
    parser.add_argument("--label", default="", help="of the file that is written; none: the row's name")
    parser.add_argument(
        "--surfaces", default="all", help="names joined by commas; all; none: only what is carried over"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--losses", default="margin", help="each a search of its own")
    parser.add_argument("--cascade", action="store_true", help="images that have fallen are not attacked again")
    parser.add_argument("--draws", type=int, default=1, help="by which a model that draws at random is judged")
    parser.add_argument("--queries", type=int, default=100, help="of the black box")
    parser.add_argument("--points", default="signs", help="a name for the bare model, whose points are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/self_supervision"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    knobs = dict(one.split("=") for one in given.tune.split(",") if one)
    model = row(given.row, given.folder, knobs)
    batch = vallum.load_data(given.data).batch(range(given.first, given.first + given.n))
    for eps in given.eps.split(","):
        measure(given.label or given.row, model, batch, eps, given)


if __name__ == "__main__":
    main()
