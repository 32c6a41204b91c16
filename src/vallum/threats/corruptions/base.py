"""What the corruptions of ImageNet-C have in common: a severity, a table of strengths, draws for each image alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import Threat

Strength = tuple[float, ...]


@dataclass(frozen=True)
class Strengths:
    """What the five severities mean, as published: for ImageNet-C (224 pixels), Tiny ImageNet-C (64), CIFAR-C (32)."""

    imagenet: Sequence[Strength]
    tiny: Sequence[Strength]
    cifar: Sequence[Strength]

    def at(self, severity: float, table: str) -> Strength:
        """The strength at `severity`; between two of the five it lies between theirs, in proportion."""
        rows: Sequence[Strength] = getattr(self, table)
        below = min(floor(severity), 4)
        share = severity - below
        pairs = zip(rows[below - 1], rows[below], strict=True)
        return tuple(low if share == 0 else high if share == 1 else low + share * (high - low) for low, high in pairs)


@dataclass(frozen=True)
class Corruption(Threat):
    """A corruption is `alter`: images and draws to images. Halves are worked on as float32, the result is clamped."""

    severity: float = parameter("1 to 5, as in ImageNet-C; 2.5 lies between 2 and 3", nameless=True)
    table: Literal["auto", "imagenet", "tiny", "cifar"] = parameter(
        "whose severities: ImageNet-C, Tiny ImageNet-C or CIFAR-C; auto: by the images' shorter side", "auto"
    )
    seed: int = parameter("of the draws", 0)

    kind = "corruption"
    strengths: ClassVar[Strengths]
    at_once: ClassVar[int] = 2**20  # how many values a processor works on together

    def __post_init__(self) -> None:
        if not 1 <= self.severity <= 5:
            raise UserError(f"severity={self.severity:g}", "it lies between 1 and 5", "write fog:3 or fog:2.5")

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        raise NotImplementedError

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        if len(images) == 0:
            return images
        strength, draws = self.strength(images), self.draws(images, keys)
        if images.requires_grad or images.device.type != "cpu":
            return self.alter(working(images), draws, strength).clamp(0, 1).to(images.dtype)
        # A few at a time stay in the processor's cache from one step to the next, which halves the time.
        altered, few = torch.empty_like(images), max(1, self.at_once // images[0].numel())
        for start in range(0, len(images), few):
            some = slice(start, start + few)
            part = self.alter(working(images[some]), replace(draws, keys=draws.keys[some]), strength)
            torch.clamp(part.to(images.dtype), 0, 1, out=altered[some])
        return altered

    def strength(self, images: Tensor) -> Strength:
        """What the severity means for images of this size."""
        if images.shape[1] not in (1, 3):
            raise UserError(f"images have {images.shape[1]} channels", "corruptions know grey and colour: 1 or 3")
        return self.strengths.at(self.severity, table_for(images) if self.table == "auto" else self.table)


def table_for(images: Tensor) -> str:
    """The published table whose image size is nearest in proportion."""
    side = min(images.shape[2:])
    return "cifar" if side <= 45 else "tiny" if side <= 120 else "imagenet"


def working(images: Tensor) -> Tensor:
    """Images in a precision in which sums over many pixels can be trusted, laid out channel by channel."""
    return (images if images.dtype in (torch.float32, torch.float64) else images.float()).contiguous()


def straight_through(value: Tensor, carrier: Tensor) -> Tensor:
    """`value`, with the gradient of `carrier`: what a step that has no gradient of its own is taken for."""
    return value.detach() + (carrier - carrier.detach()) if carrier.requires_grad else value
