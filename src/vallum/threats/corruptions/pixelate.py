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
from vallum.threats.corruptions.quantise import quantised


@lru_cache(maxsize=64)
def _boxes(length: int, wanted: int) -> np.ndarray:
    """(wanted, length): each new pixel is the plain mean of the old ones whose centres it covers."""
    scale = length / wanted
    centres = (np.arange(wanted)[:, None] + 0.5) * scale
    reach = max(scale, 1.0) / 2
    distance = np.arange(length) + 0.5 - centres
    covered = ((distance > -reach) & (distance <= reach)).astype(np.float64)
    return covered / covered.sum(1, keepdims=True)


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
        few_rows, few_columns = max(1, int(height * strength[0])), max(1, int(width * strength[0]))
        across = torch.from_numpy(_boxes(width, few_columns)).to(images)
        down = torch.from_numpy(_boxes(height, few_rows)).to(images)
        small = quantised(down @ quantised(images @ across.T))
        rows = torch.from_numpy(_boxes(few_rows, height).argmax(1)).to(images.device)
        columns = torch.from_numpy(_boxes(few_columns, width).argmax(1)).to(images.device)
        return small.index_select(2, rows).index_select(3, columns)
