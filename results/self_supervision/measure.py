"""What results/self_supervision/README.md reports, a part at a time; what is there already is not done again.

    python results/self_supervision/measure.py ROW FOLDER --eps 8/255 -n 200
    python results/self_supervision/measure.py table

FOLDER is what `vallum harden ... --with self_supervision` left, ROW one of those of the table. Every row meets the same
images, and attacks that begin at the same points.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import controls
import torch
from worst_case import Points, attacked

import vallum
from vallum.defences import Defence
from vallum.defences.self_supervision import SelfSupervised
from vallum.images import Batch
from vallum.models.model import Model

HERE = Path(__file__).parent
ROWS = ("static", "noise", "views", "contrastive", "rotation", "inpainting", "shuffled", "fast", "paper", "amortised")


def row(name: str, folder: str) -> Model:
    """The defence that a row of the table is about, or the model without any."""
    defence = vallum.load_model(folder)
    assert isinstance(defence, SelfSupervised), "a folder that was hardened with self_supervision is needed"
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
    """Images in parts; the file of a row is written after each, and what it holds is not measured again."""
    path = given.out / f"{label}-{eps.replace('/', '_')}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"keys": [], "right": {}, "seconds": 0.0}
    above, below = (float(one) for one in eps.split("/"))
    radius = above / below
    bare = model.bare if isinstance(model, Defence) else model
    for start in range(len(known["keys"]), len(batch), given.batch):
        rows = slice(start, start + given.batch)
        part = Batch(batch.images[rows], batch.labels[rows], batch.keys[rows], batch.names[rows])
        cache = given.out / "points" / f"{given.points}-{eps.replace('/', '_')}-{start}-{len(part)}.pt"
        if not cache.exists():
            cache.parent.mkdir(parents=True, exist_ok=True)
            found = Points.on(bare, part, radius)
            torch.save(found.__dict__, cache)
        points = Points(**torch.load(cache))
        begun = time.process_time()
        names = None if given.surfaces == "all" else given.surfaces.split(",") if given.surfaces else []
        verdicts = attacked(
            model, part, radius, points, names, given.steps, given.losses.split(","), given.cascade, given.draws,
            given.queries, shorter,
        )  # fmt: skip
        known["seconds"] += time.process_time() - begun
        known["keys"] += part.keys.tolist()
        for surface, verdict in verdicts.items():
            known["right"].setdefault(surface, []).extend(verdict)
        path.write_text(json.dumps(known))
        rates = {name: round(sum(v) / len(v), 4) for name, v in known["right"].items()}
        print(label, eps, len(known["keys"]), round(known["seconds"]), rates, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("folder")
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--data", default="builtin:signs?split=test")
    parser.add_argument("--eps", default="8/255", help="one or several, joined by commas")
    parser.add_argument("--label", default="", help="of the file that is written; none: the row's name")
    parser.add_argument(
        "--surfaces", default="all", help="names joined by commas; all; none: only what is carried over"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--losses", default="margin", help="each a search of its own")
    parser.add_argument("--cascade", action="store_true", help="images that have fallen are not attacked again")
    parser.add_argument("--draws", type=int, default=1, help="by which a model that draws at random is judged")
    parser.add_argument("--queries", type=int, default=100, help="of the black box")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--points", default="signs", help="a name for the bare model, whose points are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/self_supervision"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = row(given.row, given.folder)
    batch = vallum.load_data(given.data).batch(range(given.n))
    for eps in given.eps.split(","):
        measure(given.label or given.row, model, batch, eps, given)


if __name__ == "__main__":
    main()
