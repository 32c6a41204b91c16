"""Perturbations found for one network, met by the others: python results/shared_training/transfer.py OUT NAME=MODEL ...

OUT is a run of `vallum evaluate`, or becomes one; the matrix is in its report, and in OUT/transfer.json.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

import vallum
from vallum.evaluation import transfer_matrix

DATA = "builtin:signs?split=test&n=1000"
SEARCH = "universal:eps=20/255,steps=24,images=768,targets=1,data=builtin:signs?split=val&n=2000"


def main() -> None:
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    models = dict(text.split("=", 1) for text in sys.argv[2:])
    if not (out / "plan.json").exists():
        vallum.evaluate(models, DATA, ["gaussian:std=0.1"], n=400, out=out)
    found = transfer_matrix(models, DATA, SEARCH, n=400, out=out)
    rows = {name: [asdict(one) for one in row] for name, row in zip([*found.names, "nothing"], found.left, strict=True)}
    (out / "transfer.json").write_text(
        json.dumps({"threat": found.threat, "met by": found.names, "left": rows}, indent=1)
    )
    for name, row in zip([*found.names, "nothing"], found.left, strict=True):
        print(f"found for {name}:", ", ".join(f"{100 * one.value:.1f}" for one in row))


if __name__ == "__main__":
    main()
