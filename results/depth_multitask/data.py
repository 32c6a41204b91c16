"""The images and clips of all runs, made once: data.py FOLDER [PART ...]

Parts are train, test and clips; one that is there already is left alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vallum.data import load_clips, load_data

IMAGES = {"train": "builtin:streets?split=train&n=2000", "test": "builtin:streets?split=test&n=200"}
CLIPS = "builtin:streets?n=1200"


def whole(images: Tensor) -> np.ndarray:
    """Channels last, 0 to 255."""
    return (images * 255).round().to(torch.uint8).movedim(-3, -1).numpy()


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for part in sys.argv[2:] or [*IMAGES, "clips"]:
        path, half = folder / f"{part}.npz", folder / f".{part}.npz"
        if path.exists():
            continue
        if part in IMAGES:
            data = load_data(IMAGES[part])
            batch = data.batch(range(len(data)))
            masks = batch.labels.to(torch.uint8).numpy()
            np.savez(half, images=whole(batch.images), masks=masks, classes=np.array(data.classes))
        else:
            source = load_clips(CLIPS)
            clips = [source.read(index) for index in range(len(source))]
            np.savez(
                half,
                frames=np.stack([whole(clip.frames) for clip in clips]),
                **{
                    name: torch.stack([getattr(clip, name) for clip in clips]).numpy()
                    for name in ("intrinsics", "motion", "depth", "moving")
                },
            )
        half.rename(path)


if __name__ == "__main__":
    main()
