"""Fewer, larger pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.filters import Strips, across, down, strips
from vallum.threats.corruptions.quantise import rounded


@lru_cache(maxsize=64)
def _boxes(length: int, wanted: int, dtype: torch.dtype, device: torch.device) -> Strips:
    """(wanted, length): each new pixel is the plain mean of the old ones whose centres it covers."""
    scale = length / wanted
    centres = (np.arange(wanted)[:, None] + 0.5) * scale
    reach = max(scale, 1.0) / 2
    distance = np.arange(length) + 0.5 - centres
    covered = ((distance > -reach) & (distance <= reach)).astype(np.float64)
    return strips(covered / covered.sum(1, keepdims=True), torch.empty(0, dtype=dtype, device=device), size=16)


def _enlarged(length: int, wanted: int, device: torch.device) -> Tensor:
    """(wanted,) the old pixel that covers the centre of each new one."""
    return (torch.arange(wanted, device=device) * 2 + 1) * length // (2 * wanted)


@THREATS.register("pixelate")
@dataclass(frozen=True)
class Pixelate(Corruption):
    """Strength: what is left of width and height."""

    strengths = Strengths(
        imagenet=[(0.6,), (0.5,), (0.4,), (0.3,), (0.25,)],
        tiny=[(0.9,), (0.8,), (0.7,), (0.6,), (0.5,)],
        cifar=[(0.95,), (0.9,), (0.85,), (0.75,), (0.65,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        height, width = images.shape[2:]
        rows, columns = max(1, int(height * strength[0])), max(1, int(width * strength[0]))
        place = images.dtype, images.device
        levels = (images * 255).flatten(0, 1)  # (N * C, H, W)
        narrow = rounded(across(levels, _boxes(width, columns, *place)))
        small = rounded(down(narrow, _boxes(height, rows, *place))) / 255
        wide = small.index_select(2, _enlarged(columns, width, images.device))
        return wide.index_select(1, _enlarged(rows, height, images.device)).view_as(images)
