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


def scattered(choices: Tensor, reach: int) -> Tensor:
    """Where each pixel of a batch comes from, (N * H * W,), when pixels are overwritten one after the other.

    From the last row and column to the first, each pixel takes what stands, at that moment, one of (2 * reach) ** 2
    steps away from it: `choices` (N, H, W) numbers them by rows, from -reach to reach - 1 either way. A frame of
    `reach` pixels is left alone. What a pixel takes is what its neighbour took before it, if that one's turn has come,
    so the answer lies at the end of a chain, found for all at once by doubling.
    """
    height, width = choices.shape[1:]
    steps = torch.arange(-reach, reach, device=choices.device)
    number = torch.int32 if choices.numel() < 2**31 else torch.int64  # 32 bits are looked up several times faster
    offsets = (steps[:, None] * width + steps).flatten().to(number)
    inner = torch.zeros(height, width, dtype=number, device=choices.device)
    inner[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = 1
    here = torch.arange(choices.numel(), dtype=number, device=choices.device)
    offset = offsets.index_select(0, choices.flatten()).view_as(choices) * inner
    source = here + offset.flatten()
    chain = torch.maximum(source, here)  # pixels further on had their turn before; in the frame, chains end
    while not torch.equal(further := chain.index_select(0, chain), chain):
        chain = further
    return source.index_select(0, chain)


def gathered(images: Tensor, source: Tensor) -> Tensor:
    """Images (N, C, H, W) whose pixels come from the places `source` (N * H * W,) in the batch."""
    planes = [images[:, c].reshape(-1).index_select(0, source).view_as(images[:, c]) for c in range(images.shape[1])]
    return torch.stack(planes, 1)


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
        blurred = truncated(gaussian_blur(images, sigma))
        source: Tensor | None = None
        for turn in range(rounds):
            chance = draws.uniform(*images.shape[2:], purpose=f"round {turn}", device=images.device)
            choices = (chance * (2 * reach) ** 2).int()
            taken = scattered(choices, reach)
            source = taken if source is None else source.index_select(0, taken)
        return gaussian_blur(blurred if source is None else gathered(blurred, source), sigma)
