"""What universal perturbations do to segmenters: python results/shared_training/streets.py OUT.jsonl NAME=MODEL ...

Three aims at each radius: wrong answers, a scene that all images shall show, and a class of which nothing shall be
seen. A line of JSON for each; what the file has already is left out. Options as KEY=VALUE before the models:
fit, test: where the images come from; picture: a file for all perturbations at the largest radius.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import vallum
from vallum.evaluation.statistics import share
from vallum.images import IGNORE, Batch
from vallum.threats.base import Threat
from vallum.threats.universal.portrait import save_picture

SOURCES = {
    "fit": "builtin:streets?split=val&n=300&size=32x96",
    "test": "builtin:streets?split=test&n=200&size=32x96",
}
RADII = ("8/255", "16/255")
HIDDEN = "car"
SCENE = 7  # of the images that are fitted on


def shares(answers: Tensor, wanted: Tensor, where: Tensor) -> list[float]:
    """For each image the share of the pixels `where` that answer as wanted; images without any are left out."""
    hits, count = ((answers == wanted) & where).flatten(1).sum(1), where.flatten(1).sum(1)
    return (hits[count > 0] / count[count > 0]).double().tolist()


def main() -> None:
    torch.set_num_threads(1)
    out, *rest = sys.argv[1:]
    given = dict(text.split("=", 1) for text in rest)
    picture = given.pop("picture", None)
    fit, test = (vallum.load_data(given.pop(name, source)) for name, source in SOURCES.items())
    file = Path(out)
    known = {tuple(json.loads(line)["of"]) for line in file.read_text().splitlines()} if file.exists() else set()
    batch = test.batch(range(len(test)))
    hidden, scene = fit.classes.index(HIDDEN), fit.batch([SCENE]).labels
    valid = batch.labels != IGNORE
    for name, where in given.items():
        model = vallum.load_model(where)
        clean = said(model, batch)
        was = clean == hidden
        aims: dict[str, Callable[[Tensor], dict[str, list[float]]]] = {
            "": lambda now: {"right": shares(now, batch.labels, valid)},
            f"scene={SCENE}": lambda now: {"as the scene": shares(now, scene.expand_as(now), torch.ones_like(valid))},
            f"hide={HIDDEN}": lambda now, clean=clean, was=was: {
                "gone": [1 - one for one in shares(now, clean, was)], "all else as before": shares(now, clean, ~was),
            },
        }  # fmt: skip
        for aim, measured in aims.items():
            for eps in ("0", *RADII):
                if (name, aim, eps) in known:
                    continue
                began, now = time.process_time(), clean
                if eps != "0":
                    spec = f"universal:eps={eps},steps=32,images=256,batch_size=16" + (f",{aim}" if aim else "")
                    ready = vallum.threat(spec).fit(model, fit)  # type: ignore[attr-defined]
                    now = said(model, batch, ready)
                    save_picture(
                        ready.found.deltas[0], file.parent / f"{name} {aim or 'away'} {eps.replace('/', '-')}.png"
                    )
                row = {"of": [name, aim, eps], "seconds": round(time.process_time() - began, 1)}
                for what, values in measured(now).items():
                    row[what] = asdict(share(torch.tensor(values).numpy()))
                print(
                    {key: value["value"] if isinstance(value, dict) else value for key, value in row.items()},
                    flush=True,
                )
                with file.open("a") as lines:
                    lines.write(json.dumps(row) + "\n")
    if picture is not None:
        sheet(file.parent, list(given)).quantize(64).save(picture, optimize=True)


def sheet(folder: Path, names: list[str]) -> Image.Image:
    """The perturbations at the largest radius: a row for each model, a column for each aim."""
    aims = {"away": "wrong answers", f"scene={SCENE}": "one scene for all", f"hide={HIDDEN}": f"no {HIDDEN}"}
    whole = Image.new("RGB", (90 + 198 * len(aims), 20 + 70 * len(names)), "white")
    words = ImageDraw.Draw(whole)
    for column, (aim, text) in enumerate(aims.items()):
        words.text((90 + 198 * column, 4), text, fill="black")
        for row, name in enumerate(names):
            words.text((4, 44 + 70 * row), name, fill="black")
            one = Image.open(folder / f"{name} {aim} {RADII[-1].replace('/', '-')}.png").convert("RGB")
            whole.paste(one.resize((192, 64), Image.Resampling.NEAREST), (90 + 198 * column, 20 + 70 * row))
    return whole


def said(model: torch.nn.Module, batch: Batch, attack: Threat | None = None) -> Tensor:
    found = []
    for start in range(0, len(batch), 50):
        part = slice(start, start + 50)
        images = batch.images[part]
        if attack is not None:
            images = attack(model, images, batch.labels[part], batch.keys[part])
        with torch.no_grad():
            found.append(model(images).argmax(1))
    return torch.cat(found)


if __name__ == "__main__":
    main()
