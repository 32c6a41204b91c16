"""Make the sets of patches that are compared: python make.py FOLDER NAME ...; without names it lists them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from vallum.defences.defensive_patches import make_patches

NETS = ["builtin:signs_resnet", "builtin:signs_resnet_robust"]  # the vision transformers are held out
DATA = "builtin:signs?split=train&n=4000"
SETS: dict[str, dict[str, Any]] = {
    "ensemble": {"maker": "ensemble"},
    "universal": {"maker": "universal"},
    "unadversarial": {
        "models": NETS[:1], "maker": "unadversarial", "colours": "pixels", "optimizer": "sign", "lr": 0.005,
        "start": "noise",
    },
    "minmax": {"maker": "minmax:eps=4/255"},
    "consensus-mean": {"maker": "consensus:merge=mean,times=8"},
    "consensus-gram": {"maker": "consensus:merge=gram,times=8"},
    **{f"selective{b}": {"maker": f"selective:wrong={b},alone=0.3"} for b in ("0.1", "0.3", "1", "3")},
}  # fmt: skip


def main(folder: str, names: list[str]) -> None:
    torch.set_num_threads(1)
    for name in names:
        chosen = {"models": NETS, "data": DATA, "steps": 250, "looks": 5, **SETS[name]}
        began = time.process_time()
        patches = make_patches(**chosen, out=Path(folder) / name, quiet=True)
        told = ", ".join(f"{model} {share:.1%}" for model, share in patches.made["told"].items())
        print(f"{name}: {time.process_time() - began:.0f} s, {patches.made['passes']:,} passes; {told}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(f"{__doc__}\n{', '.join(SETS)}")
    main(sys.argv[1], sys.argv[2:])
