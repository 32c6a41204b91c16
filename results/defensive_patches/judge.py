"""Judge what make.py made: python judge.py SETS RUN; resumes, and takes in sets that were added since."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from vallum.evaluation.patches import evaluate_patches
from vallum.report import write_report
from vallum.report.export import markdown

NETS = ["builtin:signs_resnet", "builtin:signs_resnet_robust"]
HELD_OUT = ["builtin:signs_vit", "builtin:signs_vit_robust"]
HOW: dict[str, Any] = {
    "corruptions": ["gaussian_noise:5", "impulse_noise:5", "fog:5", "contrast:5"],
    "attack": "pgd:eps=4/255,steps=10,loss=margin", "radii": [2 / 255, 32 / 255],
    "n": 129, "few": 43, "batch_size": 64,
}  # fmt: skip


def main(sets: str, out: str) -> None:
    torch.set_num_threads(1)
    own, began = Path(sets) / "ensemble", time.process_time()
    beside = {one.parent.name: one.parent for one in sorted(Path(sets).glob("*/vallum.json")) if one.parent != own}
    judged = evaluate_patches(own, NETS, "builtin:signs", held_out=HELD_OUT, beside=beside, out=out, **HOW)
    write_report(judged.run)
    (Path(out) / "tables.md").write_text(markdown([judged.run]), "utf-8")
    print(*judged.says, f"{time.process_time() - began:.0f} s of one core", sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
