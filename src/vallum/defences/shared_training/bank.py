"""Perturbations that outlive a step: where heaps start warm, and what they leave for the next ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vallum.defences.shared_training.heaps import Heaps
from vallum.images import Draws
from vallum.threats.norms import Norm


class Bank(nn.Module):
    """`entries` has a perturbation each, `slope` what the last training pass would have them change by.

    Both are buffers: in the checkpoints, and averaged over processes, which leaves the sign of a sum as it is.
    """

    entries: Tensor  # (P, C, h, w), possibly P = 0
    slope: Tensor

    def __init__(self, size: int, image: Tensor, norm: Norm, eps: float) -> None:
        super().__init__()
        ones = torch.ones(size, *image.shape, dtype=image.dtype, device=image.device)
        radii = torch.full((size,), eps, dtype=image.dtype, device=image.device)
        start = norm.random(Draws(0, range(size), "bank"), radii, -ones, ones) if size else ones
        self.register_buffer("entries", start)
        self.register_buffer("slope", torch.zeros_like(start))
        self.like = image[None][:0]  # (0, C, h, w), for who has no image at hand

    def choose(self, heaps: Heaps, by_class: bool) -> Tensor:
        """(H,) which entry each heap takes."""
        if by_class:
            return torch.arange(heaps.count, device=self.entries.device) % len(self.entries)
        return heaps.draws.integers(len(self.entries), purpose="entry", device=self.entries.device)

    def collect(self, slope: Tensor) -> None:
        """What a part of the training pass has found."""
        self.slope += slope

    def keep(self, entry: Tensor, found: Tensor, rate: float) -> None:
        """Move each entry towards the mean of what those found who took it."""
        times = torch.zeros(len(self.entries), dtype=found.dtype, device=found.device)
        times.index_add_(0, entry, torch.ones_like(entry, dtype=found.dtype))
        mean = torch.zeros_like(self.entries).index_add_(0, entry, found) / times.clamp_min(1).view(-1, 1, 1, 1)
        self.entries += rate * (mean - self.entries) * (times > 0).view(-1, 1, 1, 1)

    def climb(self, norm: Norm, eps: float, step_size: float) -> None:
        """Take the step that the last training pass has shown, for all who took part in it."""
        size, radii = (torch.full_like(self.entries[:, 0, 0, 0], value) for value in (step_size, eps))
        low, high = -torch.ones_like(self.entries), torch.ones_like(self.entries)
        step = norm.steepest(self.slope, size, low - self.entries, high - self.entries)
        self.entries = norm.project(self.entries + step, radii, low, high)
        self.slope = torch.zeros_like(self.slope)
