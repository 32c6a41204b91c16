"""What is left of models under per-image and under universal attack: a line of JSON for each, appended to a file.

python results/shared_training/measure.py OUT.jsonl NAME=MODEL ...
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict

import torch

import vallum
from vallum.evaluation import eps_star
from vallum.evaluation.statistics import rate
from vallum.threats import threat

TEST = "builtin:signs?split=test&n=1000"
SEARCH = "universal:steps=24,images=768,targets=1,data=builtin:signs?split=val&n=2000"
LOOKED_AT = 400


def accuracy(model: torch.nn.Module, batch: object, spec: str) -> float:
    attack, right = threat(spec), 0
    for start in range(0, len(batch), 64):  # type: ignore[arg-type]
        part = slice(start, start + 64)
        images = attack(model, batch.images[part], batch.labels[part], batch.keys[part])  # type: ignore[attr-defined]
        with torch.no_grad():
            right += int((model(images).argmax(1) == batch.labels[part]).sum())  # type: ignore[attr-defined]
    return right


def main() -> None:
    torch.set_num_threads(1)
    out, *named = sys.argv[1:]
    data = vallum.load_data(TEST)
    batch = data.batch(range(LOOKED_AT))
    for text in named:
        name, _, where = text.partition("=")
        model, began = vallum.load_model(where), time.process_time()
        said: dict[str, object] = {"model": name}
        for column, spec in (
            ("clean", "clean"),
            ("pgd 4/255", "pgd:eps=4/255,steps=10"),
            ("pgd 8/255", "pgd:eps=8/255,steps=10"),
        ):
            said[column] = asdict(rate(accuracy(model, batch, spec), LOOKED_AT))
        star = eps_star(model, data, 0.5, threat=SEARCH, n=LOOKED_AT, precision=3 / 255)
        said["eps_star 50 %"] = asdict(star)
        said["processor seconds"] = round(time.process_time() - began, 1)
        with open(out, "a") as file:
            file.write(json.dumps(said) + "\n")
        print(
            name,
            {k: v["value"] if isinstance(v, dict) else v for k, v in said.items()},
            [round(e * 255, 1) for e in star.eps],
            [round(e, 3) for e in star.errors],
            flush=True,
        )


if __name__ == "__main__":
    main()
