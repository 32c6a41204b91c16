"""Blur by zooming while the shutter is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
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

    at_once = 48 * 224 * 224  # many planes, for the vectors below

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        end, distance = strength
        factors = np.arange(1, end, distance)
        # As channels of one image, last in memory, all share the work of finding places between pixels. Their number is
        # filled up to whole vectors: a processor rounds what is left over at the end otherwise.
        planes = images.flatten(0, 1)[None]
        filled = F.pad(planes, (0, 0, 0, 0, 0, -planes.shape[1] % 16)).contiguous(memory_format=torch.channels_last)
        total = filled.clone()
        for factor in factors:
            total += zoomed(filled, float(factor))
        return (total[:, : planes.shape[1]] / (len(factors) + 1)).reshape(images.shape)
