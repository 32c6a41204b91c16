"""The pictures of the pages on noisy modelling and self-supervision: python docs/pictures.py FOLDER

FOLDER is what `vallum harden builtin:signs_resnet_robust --with self_supervision ...` left.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import vallum
from vallum.defences.noisy_modelling import add_noise
from vallum.images import Draws

HERE, TIMES, GAP = Path(__file__).parent / "families", 2, 3


def sheet(rows: Sequence[Tensor], name: str) -> None:
    """A row of images for each entry, enlarged, on white."""
    lines = [torch.cat([torch.nn.functional.pad(one, (0, GAP, 0, GAP), value=1.0) for one in row], 2) for row in rows]
    picture = (torch.cat(lines, 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    large = np.kron(picture, np.ones((TIMES, TIMES, 1), np.uint8))
    Image.fromarray(large).save(HERE / name, quality=85, optimize=True)


def main(folder: str) -> None:
    batch = vallum.load_data("builtin:signs?split=test").batch(range(10))
    denoised = vallum.load_model("builtin:signs_denoised")
    rows = [batch.images]
    for sigma in (0.15, 0.3):
        noisy = add_noise(batch.images, sigma, Draws(0, batch.keys, "picture"))
        with torch.no_grad():
            rows += [noisy, denoised.denoiser(noisy)]
    sheet(rows, "denoised.jpg")

    repaired = vallum.load_model(folder)
    attack = vallum.threat("pgd:eps=8/255,steps=20,early_stop=false")
    attacked = attack(repaired.model, batch.images, batch.labels, batch.keys)
    found = repaired.repaired(attacked).images
    times = 8
    rows = [batch.images, attacked, 0.5 + times * (attacked - batch.images), found, 0.5 + times * (found - attacked)]
    sheet(rows, "repaired.jpg")


if __name__ == "__main__":
    main(sys.argv[1])
