"""Blur that is the same for every image: a Gaussian, and a lens out of focus."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.filters import correlate, disc, gaussian_blur


@THREATS.register("gaussian_blur")
@dataclass(frozen=True)
class GaussianBlur(Corruption):
    """Strength: the Gaussian's standard deviation in pixels."""

    strengths = Strengths(
        imagenet=[(1,), (2,), (3,), (4,), (6,)],
        tiny=[(0.5,), (0.75,), (1,), (1.25,), (1.5,)],
        cifar=[(0.4,), (0.6,), (0.7,), (0.8,), (1,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        return gaussian_blur(images, strength[0])


@THREATS.register("defocus_blur", "defocus")
@dataclass(frozen=True)
class DefocusBlur(Corruption):
    """Strength: radius of the disc that a point becomes, softness of its edge, in pixels."""

    strengths = Strengths(
        imagenet=[(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
        tiny=[(0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)],
        cifar=[(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        return correlate(images, disc(*strength))
