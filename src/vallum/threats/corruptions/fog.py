"""Fog: a cloud is added, and the whole dimmed to the light there was."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.plasma import plasma


def clouds(images: Tensor, draws: Draws, decay: float) -> Tensor:
    """(N, 1, H, W) in [0, 1], one cloud for each image."""
    height, width = images.shape[2:]
    side = 1 << (max(height, width) - 1).bit_length()
    wobble = draws.uniform(side, side, purpose="clouds", device=images.device).to(images.dtype) * 2 - 1
    return plasma(wobble, decay)[:, None, :height, :width]


@THREATS.register("fog")
@dataclass(frozen=True)
class Fog(Corruption):
    """Strength: density, and how fast the cloud's detail fades with its scale."""

    strengths = Strengths(
        imagenet=[(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
        tiny=[(0.4, 3), (0.7, 3), (1, 2.5), (1.5, 2), (2, 1.75)],
        cifar=[(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        density, decay = strength
        brightest = images.amax((1, 2, 3), keepdim=True)
        foggy = torch.add(images, clouds(images, draws, decay), alpha=density)
        return foggy.mul_(brightest / (brightest + density))
