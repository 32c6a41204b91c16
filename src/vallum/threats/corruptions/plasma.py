"""Plasma fractals by diamond and square (Fournier, Fussell and Carpenter 1982): clouds of any roughness."""

from __future__ import annotations

import torch
from torch import Tensor


def plasma(wobble: Tensor, decay: float) -> Tensor:
    """Clouds in [0, 1] from `wobble`, (N, S, S) uniform in [-1, 1), S a power of two; they wrap around at the edges.

    Each pixel is set once: the mean of four known neighbours, moved by its wobble. The moves shrink by decay squared
    from one scale to the next, so a decay near 1 gives rough clouds.

    >>> clouds = plasma(torch.rand(1, 16, 16) * 2 - 1, decay=2.0)
    >>> clouds.min(), clouds.max()
    (tensor(0.), tensor(1.))
    """
    height = torch.zeros_like(wobble)
    step, size = wobble.shape[1], 1.0
    while step >= 2:
        half = step // 2
        corners = height[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        centres = (pairs + pairs.roll(-1, 2)) / 4 + size * wobble[:, half::step, half::step]
        height[:, half::step, half::step] = centres
        # Each remaining point lies between two corners one way and two centres the other.
        above = (centres + centres.roll(1, 1)) + (corners + corners.roll(-1, 2))
        beside = (centres + centres.roll(1, 2)) + (corners + corners.roll(-1, 1))
        height[:, ::step, half::step] = above / 4 + size * wobble[:, ::step, half::step]
        height[:, half::step, ::step] = beside / 4 + size * wobble[:, half::step, ::step]
        step, size = half, size / decay**2
    lowest, highest = height.amin((1, 2), keepdim=True), height.amax((1, 2), keepdim=True)
    return (height - lowest) / (highest - lowest)
