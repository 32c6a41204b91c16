"""Blur along a line, as of a camera that moves while the shutter is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.filters import padded


def motion_blur(images: Tensor, radius: int, sigma: float, degrees: np.ndarray) -> Tensor:
    """Each image drawn along its own angle (N,): 2 * radius + 1 steps of one pixel, weighted by half a Gaussian.

    The path begins at the pixel itself and runs to one side, so the image moves a little, by about 0.8 sigma.
    """
    steps = np.arange(2 * radius + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    weights /= weights.sum()
    radians = np.deg2rad(degrees)[:, None]
    down = np.ceil(steps * np.sin(radians) - 0.5).astype(int)  # (N, T) whole pixels, halves towards zero
    across = np.ceil(steps * np.cos(radians) - 0.5).astype(int)
    height, width = images.shape[2:]
    above, left = int(max(0, -down.min())), int(max(0, -across.min()))
    wide = padded(images, above, int(max(0, down.max())), left, int(max(0, across.max())), "nearest")
    # A path longer than the image ends where it leaves it, and where the rest of it weighs less than rounding does.
    ends = (abs(down) >= height) | (abs(across) >= width) | (weights[::-1].cumsum()[::-1] < 1e-7)
    blurred = []
    for image, rows, columns, length in zip(wide, down, across, (~ends).cumprod(1).sum(1), strict=True):
        total = torch.zeros_like(image[:, :height, :width], memory_format=torch.contiguous_format)
        for row, column, weight in zip(above + rows, left + columns, weights[:length].tolist(), strict=False):
            total.add_(image[:, row : row + height, column : column + width], alpha=weight)
        blurred.append(total)
    return torch.stack(blurred)


def angles(draws: Draws, low: float, high: float) -> np.ndarray:
    """(N,) in degrees."""
    return low + (high - low) * draws.uniform(1, purpose="angle")[:, 0].double().numpy()


@THREATS.register("motion_blur", "motion")
@dataclass(frozen=True)
class MotionBlur(Corruption):
    """Strength: radius and standard deviation of the path in pixels."""

    strengths = Strengths(
        imagenet=[(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
        tiny=[(10, 1), (10, 1.5), (10, 2), (10, 2.5), (12, 3)],
        cifar=[(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        radius, sigma = strength
        return motion_blur(images, round(radius), sigma, angles(draws, -45, 45))
