"""Drops of water, or of mud, on the lens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.drops import sheen
from vallum.threats.corruptions.filters import gaussian_blur

WATER, MUD = (175, 238, 238), (63, 42, 20)  # pale turquoise and brown, in 0 .. 255


def _paint(colour: tuple[int, int, int], images: Tensor) -> Tensor:
    """(1, C, 1, 1)"""
    levels = torch.tensor(colour, dtype=images.dtype, device=images.device) / 255
    if images.shape[1] == 1:
        weights = torch.tensor([0.2989, 0.5870, 0.1140], dtype=images.dtype, device=images.device)
        levels = (levels * weights).sum(0, keepdim=True)
    return levels.view(1, -1, 1, 1)


@THREATS.register("spatter")
@dataclass(frozen=True)
class Spatter(Corruption):
    """Strength: mean and spread of the noise that drops are cut from, its smoothness, the cut, how much water is
    added or how soft the mud's edge is, and which of the two it is: 0 is water, 1 mud."""

    strengths = Strengths(
        imagenet=[
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ],
        tiny=[
            (0.62, 0.1, 0.7, 0.7, 0.6, 0),
            (0.65, 0.1, 0.8, 0.7, 0.6, 0),
            (0.65, 0.3, 1, 0.69, 0.6, 0),
            (0.65, 0.1, 0.7, 0.68, 0.6, 1),
            (0.65, 0.1, 0.5, 0.67, 0.6, 1),
        ],
        cifar=[
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        mean, spread, smooth, cut, amount, kind = strength
        noise = draws.normal(1, *images.shape[2:], purpose="drops", device=images.device).to(images.dtype)
        liquid = gaussian_blur(noise.mul_(spread).add_(mean), smooth)
        if kind < 0.5:
            return torch.addcmul(images, sheen(F.threshold(liquid, cut, 0)), _paint(WATER, images), value=amount)
        mud = gaussian_blur((liquid > cut).to(images.dtype), amount)
        mud = F.threshold(mud, 0.8, 0)
        return (images * (1 - mud)).addcmul_(mud, _paint(MUD, images))
