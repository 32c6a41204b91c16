"""Blur by zooming while the shutter is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.sampling import zoomed


@THREATS.register("zoom_blur", "zoom")
@dataclass(frozen=True)
class ZoomBlur(Corruption):
    """The mean of the image and of enlargements of it. Strength: where the enlargements end, and their distance."""

    strengths = Strengths(
        imagenet=[(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
        tiny=[(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
        cifar=[(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        end, distance = strength
        factors = np.arange(1, end, distance)
        total = torch.zeros_like(images)
        for factor in factors:
            total = total + zoomed(images, float(factor))
        return (images + total) / (len(factors) + 1)
