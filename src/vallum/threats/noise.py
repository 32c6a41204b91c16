"""Noise: what a sensor or a wire adds, drawn for each image alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.specs import parameter
from vallum.threats.base import THREATS, Threat


@THREATS.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Threat):
    """Gaussian noise, given by its standard deviation or by the signal-to-noise ratio in dB.

    >>> Gaussian(std=0.1)(None, torch.zeros(2, 3, 8, 8), torch.zeros(2)).max() <= 1
    tensor(True)
    """

    std: float | None = parameter("standard deviation, images being in [0, 1]", None)
    snr: float | None = parameter("instead of std: 10 log10 of the image's mean square over the noise's, in dB", None)
    seed: int = parameter("of the noise", 0)
    kind = "noise"

    def __post_init__(self) -> None:
        if (self.std is None) == (self.snr is None):
            raise UserError("gaussian takes one strength", "std or snr", "write gaussian:std=0.1 or gaussian:snr=20")
        if self.std is not None and not self.std >= 0:
            raise UserError(f"std={self.std}", "a standard deviation is not negative")

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        noise = self.draws(images, keys).normal(*images.shape[1:], purpose="noise", device=images.device)
        if self.std is not None:
            return (images + noise * self.std).clamp(0, 1)
        power = images.flatten(1).double().square().mean(1)  # (N,)
        std = (power / 10 ** (cast(float, self.snr) / 10)).sqrt().to(images.dtype)
        return (images + noise * std.view(-1, 1, 1, 1)).clamp(0, 1)


@THREATS.register("salt_pepper")
@dataclass(frozen=True)
class SaltPepper(Threat):
    """A share of the pixels, in all channels, turns black or white."""

    amount: float = parameter("share of the pixels that is hit, half of them white", 0.02)
    seed: int = parameter("of the noise", 0)
    kind = "noise"

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= 1:
            raise UserError(f"amount={self.amount}", "a share lies in [0, 1]")

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        chance = self.draws(images, keys).uniform(1, *images.shape[2:], purpose="noise", device=images.device)
        hit = torch.where(chance < self.amount / 2, 1.0, torch.where(chance < self.amount, 0.0, images))
        return hit.to(images.dtype)
