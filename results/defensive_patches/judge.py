"""Judge what make.py made: python judge.py SETS RUN; resumes, and takes in sets that were added since."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from vallum.evaluation.patches import evaluate_patches
from vallum.report import write_report
from vallum.report.export import markdown

NETS = ["builtin:signs_resnet", "builtin:signs_resnet_robust"]
HELD_OUT = ["builtin:signs_vit", "builtin:signs_vit_robust"]
CORRUPTIONS = ["gaussian_noise:5", "impulse_noise:5", "motion_blur:5", "jpeg_compression:5",
               "fog:3", "fog:5", "contrast:3", "contrast:5"]  # fmt: skip


def main(sets: str, out: str) -> None:
    torch.set_num_threads(1)
    own, began = Path(sets) / "ensemble", time.process_time()
    beside = {one.parent.name: one.parent for one in sorted(Path(sets).glob("*/vallum.json")) if one.parent != own}
    judged = evaluate_patches(
        own, NETS, "builtin:signs", held_out=HELD_OUT, beside=beside, corruptions=CORRUPTIONS, n=301, few=86, out=out
    )
    write_report(judged.run)
    (Path(out) / "tables.md").write_text(markdown([judged.run]), "utf-8")
    print(*judged.says, f"{time.process_time() - began:.0f} s of one core", sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
