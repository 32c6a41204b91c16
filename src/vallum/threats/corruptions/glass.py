"""Seen through structured glass: each pixel comes from near by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.filters import gaussian_blur
from vallum.threats.corruptions.quantise import truncated


def scattered(steps: Tensor, height: int, width: int, reach: int) -> Tensor:
    """Where each pixel comes from (N, H * W), when pixels are overwritten one after the other.

    From the last row and column to the first, each pixel takes what stands, at that moment, `steps` (N, 2, H, W) away
    from it, rows then columns; a frame of `reach` pixels is left alone. What a pixel takes is what its neighbour took
    before it, if that one's turn has come, so the answer lies at the end of a chain, found for all by doubling.
    """
    rows = torch.arange(height, device=steps.device)[:, None].expand(height, width)
    columns = torch.arange(width, device=steps.device).expand(height, width)

    def taking(y: Tensor, x: Tensor) -> Tensor:
        return (y > reach) & (y <= height - reach) & (x > reach) & (x <= width - reach)

    here = rows * width + columns  # (H, W)
    from_row = torch.where(taking(rows, columns), rows + steps[:, 0], rows)
    from_column = torch.where(taking(rows, columns), columns + steps[:, 1], columns)
    source = (from_row * width + from_column).flatten(1)  # (N, H * W)
    earlier = taking(from_row, from_column).flatten(1) & (source > here.flatten())
    chain = torch.where(earlier, source, here.flatten())
    while True:
        further = chain.gather(1, chain)
        if torch.equal(further, chain):
            return source.gather(1, chain)
        chain = further


@THREATS.register("glass_blur", "glass")
@dataclass(frozen=True)
class GlassBlur(Corruption):
    """Strength: standard deviation of a blur before and after, how far pixels move, how often."""

    strengths = Strengths(
        imagenet=[(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
        tiny=[(0.1, 1, 1), (0.5, 1, 1), (0.6, 1, 2), (0.7, 2, 1), (0.9, 2, 2)],
        cifar=[(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        sigma, reach, rounds = strength[0], round(strength[1]), round(strength[2])
        height, width = images.shape[2:]
        flat = truncated(gaussian_blur(images, sigma)).flatten(2)  # (N, C, H * W)
        for turn in range(rounds):
            steps = draws.integers(2 * reach, 2, height, width, purpose=f"round {turn}", device=images.device) - reach
            source = scattered(steps, height, width, reach)
            flat = flat.gather(2, source[:, None].expand_as(flat))
        return gaussian_blur(flat.view_as(images), sigma)
