"""The four noises of ImageNet-C: the sensor's, the photons', dead pixels, and what grows with the light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths, straight_through
from vallum.threats.corruptions.poisson import poisson
from vallum.threats.noise import struck


@THREATS.register("gaussian_noise")
@dataclass(frozen=True)
class GaussianNoise(Corruption):
    """Normal noise, as in dim light."""

    strengths = Strengths(
        imagenet=[(0.08,), (0.12,), (0.18,), (0.26,), (0.38,)],
        tiny=[(0.04,), (0.08,), (0.12,), (0.15,), (0.18,)],
        cifar=[(0.04,), (0.06,), (0.08,), (0.09,), (0.10,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        noise = draws.normal(*images.shape[1:], purpose="noise", device=images.device).to(images.dtype)
        return torch.add(images, noise, alpha=strength[0])


@THREATS.register("speckle_noise")
@dataclass(frozen=True)
class SpeckleNoise(Corruption):
    """Normal noise in proportion to the light."""

    strengths = Strengths(
        imagenet=[(0.15,), (0.2,), (0.35,), (0.45,), (0.6,)],
        tiny=[(0.15,), (0.2,), (0.25,), (0.3,), (0.35,)],
        cifar=[(0.06,), (0.1,), (0.12,), (0.16,), (0.2,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        noise = draws.normal(*images.shape[1:], purpose="noise", device=images.device).to(images.dtype)
        return torch.addcmul(images, images, noise, value=strength[0])


@THREATS.register("impulse_noise", "impulse")
@dataclass(frozen=True)
class ImpulseNoise(Corruption):
    """Salt and pepper, in each colour apart."""

    strengths = Strengths(
        imagenet=[(0.03,), (0.06,), (0.09,), (0.17,), (0.27,)],
        tiny=[(0.01,), (0.02,), (0.05,), (0.08,), (0.14,)],
        cifar=[(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        chance = draws.uniform(*images.shape[1:], purpose="noise", device=images.device)
        return struck(images, chance, strength[0])


@THREATS.register("shot_noise", "shot")
@dataclass(frozen=True)
class ShotNoise(Corruption):
    """The grain of light itself: photons are counted, `strength` of them where the image is white.

    The gradient is that of the mean, which is the image.
    """

    strengths = Strengths(
        imagenet=[(60,), (25,), (12,), (5,), (3,)],
        tiny=[(250,), (100,), (50,), (30,), (15,)],
        cifar=[(500,), (250,), (100,), (75,), (50,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        photons = strength[0]
        chance = draws.uniform(*images.shape[1:], purpose="noise", device=images.device)
        return straight_through(poisson(images.detach(), photons, chance, draws) / photons, images)
