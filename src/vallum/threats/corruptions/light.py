"""Brightness, contrast and saturation: what an exposure or a colour setting does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths


@THREATS.register("brightness")
@dataclass(frozen=True)
class Brightness(Corruption):
    """Strength: what is added to the value of hue, saturation and value."""

    strengths = Strengths(
        imagenet=[(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)],
        tiny=[(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)],
        cifar=[(0.05,), (0.1,), (0.15,), (0.2,), (0.3,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        value = images.amax(1, keepdim=True)  # (N, 1, H, W)
        brighter = (value + strength[0]).clamp(0, 1)
        # With hue and saturation kept, colours are in proportion to the value; black has no colour and becomes grey.
        black = (value == 0).to(images.dtype)
        return torch.addcmul(black * brighter, images, brighter / (value + black))


@THREATS.register("contrast")
@dataclass(frozen=True)
class Contrast(Corruption):
    """Strength: what is left of each colour's distance from its mean."""

    strengths = Strengths(
        imagenet=[(0.4,), (0.3,), (0.2,), (0.1,), (0.05,)],
        tiny=[(0.4,), (0.3,), (0.2,), (0.1,), (0.05,)],
        cifar=[(0.75,), (0.5,), (0.4,), (0.3,), (0.15,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        mean = images.mean((2, 3), keepdim=True)
        return (images - mean) * strength[0] + mean


@THREATS.register("saturate")
@dataclass(frozen=True)
class Saturate(Corruption):
    """Strength: factor and shift of the saturation. Severities 1 and 2 take colour away, 3 to 5 add it."""

    strengths = Strengths(
        imagenet=[(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)],
        tiny=[(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (30, 0.2)],
        cifar=[(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        if images.shape[1] == 1:
            return images
        factor, shift = strength
        value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
        spread = value - least
        black, grey = ((values == 0).to(images.dtype) for values in (value, spread))
        saturation = spread / (value + black)
        wanted = (saturation * factor + shift).clamp(0, 1)
        # The distance of each colour from the value grows with the saturation.
        coloured = torch.addcmul(value, images - value, wanted / (saturation + grey))
        if shift:
            # Grey has no hue; by the convention of hue, saturation and value it counts as red, so a shift tints it.
            coloured[:, 1:] -= grey * value * wanted
        return coloured
