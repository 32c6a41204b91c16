"""Falling snow: streaks of light over a landscape that has lost contrast."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.motion import angles, motion_blur
from vallum.threats.corruptions.quantise import quantised, truncated
from vallum.threats.corruptions.sampling import enlarged, middle


def luminance(images: Tensor) -> Tensor:
    """(N, 1, H, W), by the weights of standard television."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


@THREATS.register("snow")
@dataclass(frozen=True)
class Snow(Corruption):
    """Strength: mean and spread of the noise that flakes are cut from, their size, the cut, radius and standard
    deviation of their path, and what is left of the image."""

    strengths = Strengths(
        imagenet=[
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ],
        tiny=[
            (0.1, 0.2, 1, 0.6, 8, 3, 0.8),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.8),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.7),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.65),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.6),
        ],
        cifar=[
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        mean, spread, size, cut, radius, sigma, kept = strength
        height, width = images.shape[2:]
        few = middle(height, size), middle(width, size)
        noise = draws.normal(1, *few, purpose="flakes", device=images.device).to(images.dtype)
        flakes = enlarged(noise.mul_(spread).add_(mean), size, height, width)
        flakes = truncated(F.threshold(flakes, cut, 0).clamp_(0, 1))
        flakes = quantised(motion_blur(flakes, round(radius), sigma, angles(draws, -135, -45)))
        pale = torch.maximum(images, (luminance(images) * 1.5).add_(0.5))
        return (kept * images).add_(pale, alpha=1 - kept).add_(flakes + flakes.flip(2, 3))
