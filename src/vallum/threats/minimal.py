"""What searches for the nearest image that falls have in common: no radius, the smallest change found per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.threats.base import Threat
from vallum.threats.losses import fallen
from vallum.threats.norms import Norm
from vallum.threats.search import overlay


class Minimal(Threat):
    """An attack that looks for the smallest change that makes an image fall, and leaves it alone if it finds none."""

    kind: ClassVar[Literal["attack"]] = "attack"
    needs_gradient: ClassVar[bool] = True
    steps: int

    def __post_init__(self) -> None:
        for name in ("steps", "queries"):
            if getattr(self, name, 1) < 1:
                raise UserError(f"{name}={getattr(self, name)}", "at least 1 is needed")

    @property
    def passes(self) -> float:
        return 3.0 * self.steps - 2

    def begin(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None, norm: Norm) -> Nearest:
        """Nothing found yet; copies of what was given, for it may be inference tensors."""
        self.draws(images, keys)  # says so if there is not one key for each image
        return Nearest(images, labels.clone(), self.targeted, norm)


class Nearest:
    """For each image the nearest candidate that made it fall, and how far away it is."""

    def __init__(self, images: Tensor, labels: Tensor, targeted: bool, norm: Norm) -> None:
        self.images, self.clean = images.detach().clone(), images.detach().clone()
        self.labels, self.targeted, self.norm = labels, targeted, norm
        self.low, self.high = -self.clean, 1 - self.clean
        self.distance = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
        self.length = torch.zeros_like(self.distance)  # how far away the last candidates were

    def offer(self, candidates: Tensor, logits: Tensor) -> Tensor:
        """One candidate for each image; says which of them fall."""
        falls = fallen(logits, self.labels, self.targeted)
        self.length = self.norm.length(candidates - self.clean)
        nearer = falls & (self.length < self.distance)
        overlay(self.images, candidates, nearer)
        self.distance = torch.where(nearer, self.length, self.distance)
        return falls


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """From the first value to the last along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
