"""What is left of models under per-image and under universal attack: a line of JSON for each, appended to a file.

    python results/shared_training/measure.py OUT.jsonl [test=DATA fit=DATA search=SPEC] NAME=MODEL ...

Names that the file has already are left out, so that the same command goes on where it was stopped. Of segmenters the
share of the pixels is said.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

import vallum
from vallum.data import Data
from vallum.evaluation import eps_star
from vallum.evaluation.evaluator import choose
from vallum.evaluation.statistics import Interval, rate, share
from vallum.images import Batch
from vallum.threats import threat
from vallum.threats.universal.goals import accuracy_left

DEFAULTS = {
    "test": "builtin:signs?split=test&n=3000",
    "fit": "builtin:signs?split=val&n=2000",
    "search": "universal:steps=24,images=768,targets=1",
}
ATTACKED = 400


def some(data: Data, n: int) -> Batch:
    """The same of them for every model."""
    return data.batch(choose(len(data), min(n, len(data)), 0))


def accuracy(model: torch.nn.Module, batch: Batch, spec: str) -> Interval:
    attack, found = threat(spec), []
    for start in range(0, len(batch), 64):
        part = slice(start, start + 64)
        images = attack(model, batch.images[part], batch.labels[part], batch.keys[part])
        with torch.no_grad():
            found.append(accuracy_left(model(images).argmax(1), batch.labels[part], batch.labels[part]))
    right = torch.cat(found)
    return rate(int(right.sum()), len(batch)) if batch.labels.ndim == 1 else share(right.numpy())


def main() -> None:
    torch.set_num_threads(1)
    out, *rest = sys.argv[1:]
    given = dict(text.split("=", 1) for text in rest)
    test, fit, search = (given.pop(name, usual) for name, usual in DEFAULTS.items())
    known = {json.loads(line)["model"] for line in Path(out).read_text().splitlines()} if Path(out).exists() else set()
    data = vallum.load_data(test)
    for name, where in given.items():
        if name in known:
            continue
        model, began = vallum.load_model(where), time.process_time()
        said: dict[str, object] = {"model": name}
        said["clean"] = asdict(accuracy(model, some(data, 3000), "clean"))
        for eps in ("4/255", "8/255"):
            few = some(data, ATTACKED)
            said[f"pgd {eps}"] = asdict(accuracy(model, few, f"pgd:eps={eps},steps=10"))
        star = eps_star(model, data, 0.5, threat=f"{search},data={fit}", n=ATTACKED, precision=4 / 255)
        said["eps_star 50 %"] = asdict(star)
        said["processor seconds"] = round(time.process_time() - began, 1)
        with open(out, "a") as file:
            file.write(json.dumps(said) + "\n")
        print(name, [round(e * 255, 1) for e in star.eps], [round(e, 3) for e in star.errors], flush=True)


if __name__ == "__main__":
    main()
