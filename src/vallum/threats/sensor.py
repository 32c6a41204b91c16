"""A camera's own noise: the grain of light and the amplifier's hum, in linear light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.specs import parameter
from vallum.threats.base import THREATS, Threat


def to_light(values: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values (IEC 61966-2-1), both in [0, 1]."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def from_light(light: np.ndarray) -> np.ndarray:
    """sRGB values of linear light, both in [0, 1]."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


@THREATS.register("poisson_gaussian")
@dataclass(frozen=True)
class PoissonGaussian(Threat):
    """What a sensor counts: electrons, Poisson in number, and Gaussian noise of the amplifier that reads them.

    The gradient is passed straight through, as if there were no noise.
    """

    electrons: float = parameter("how many a white pixel holds; fewer is a darker scene or a smaller sensor", 1000.0)
    read: float = parameter("standard deviation of the amplifier's noise, in electrons", 5.0)
    seed: int = parameter("of the noise", 0)
    kind = "noise"

    def __post_init__(self) -> None:
        if not (0 < self.electrons < 1e9 and 0 <= self.read < 1e9):
            raise UserError(f"electrons={self.electrons:g}, read={self.read:g}", "above 0, and not negative")

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        if len(images) == 0:
            return images
        # Image by image in float64 on the CPU: were a mean to differ in its last bit, all later counts would too.
        light = [to_light(image) for image in images.detach().cpu().double().clamp(0, 1).numpy()]
        noisy = [
            stream.poisson(means * self.electrons) + self.read * stream.standard_normal(means.shape)
            for means, stream in zip(light, self.draws(images, keys).each("electrons"), strict=True)
        ]
        seen = from_light((np.stack(noisy) / self.electrons).clip(0, 1))
        values = torch.from_numpy(seen).to(images)
        return values + (images - images.detach()) if images.requires_grad else values
