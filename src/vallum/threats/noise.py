"""Noise: what a sensor or a wire adds, drawn for each image alone, by strength or by signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Threat
from vallum.threats.norms import per_image

SNR = "instead: 10 log10 of the image's mean square over the noise's, in dB"


class Noise(Threat):
    """Noise whose draw does not depend on its strength: `blend` of one draw grows with the strength."""

    kind = "noise"
    strength_is: ClassVar[str]  # the parameter that holds the strength
    most: ClassVar[float]  # a strength beyond which nothing changes
    snr: float | None
    seed: int

    def __post_init__(self) -> None:
        strength, example = getattr(self, self.strength_is), THREATS.name_of(self)
        if (strength is None) == (self.snr is None):
            raise UserError(
                f"{example} takes one strength",
                f"{self.strength_is} or snr",
                f"write {example}:{self.strength_is}=0.1 or {example}:snr=20",
            )
        values = torch.as_tensor(0.0 if strength is None else strength)
        if not bool(((values >= 0) & values.isfinite()).all()):
            raise UserError(f"{self.strength_is}={strength}", "a strength is finite and not negative")

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        draw = self.draw(images, self.draws(images, keys))
        return self.blend(images, draw, self.strength(images).view(-1, 1, 1, 1)).clamp(0, 1)

    def strength(self, images: Tensor) -> Tensor:
        """(N,) as given, or what has the wanted signal-to-noise ratio in expectation, before values are clamped."""
        given = getattr(self, self.strength_is)
        if given is not None:
            return per_image(given, images)
        assert self.snr is not None
        signal = images.detach().flatten(1).double().square().mean(1)
        return self.strength_for(images.detach(), (signal / 10 ** (self.snr / 10)).sqrt()).to(images.dtype)

    def draw(self, images: Tensor, draws: Draws) -> Tensor:
        """What is random about it, for each image alone."""
        raise NotImplementedError

    def blend(self, images: Tensor, draw: Tensor, strength: Tensor) -> Tensor:
        """The images with noise of this strength (N, 1, 1, 1), not yet clamped."""
        raise NotImplementedError

    def strength_for(self, images: Tensor, rms: Tensor) -> Tensor:
        """(N,) the strength at which the noise has this root mean square in expectation."""
        raise NotImplementedError


class Additive(Noise):
    """The image plus the draw times the strength."""

    most = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        strength = getattr(self, self.strength_is)
        if strength is not None and bool((torch.as_tensor(strength) > 1).any()):
            said = f"{float(torch.as_tensor(strength).max()):g}"
            raise UserError(
                f"{self.strength_is}={said}", "images are in [0, 1]", f"write {self.strength_is}={said}/255"
            )

    def blend(self, images: Tensor, draw: Tensor, strength: Tensor) -> Tensor:
        return images + draw * strength


@THREATS.register("gaussian")
@dataclass(frozen=True)
class Gaussian(Additive):
    """Gaussian noise, given by its standard deviation or by the signal-to-noise ratio in dB.

    >>> Gaussian(std=0.1)(None, torch.zeros(2, 3, 8, 8), torch.zeros(2)).max() <= 1
    tensor(True)
    """

    std: float | Tensor | None = parameter("standard deviation, images being in [0, 1]", None)
    snr: float | None = parameter(SNR, None)
    seed: int = parameter("of the noise", 0)
    strength_is = "std"

    def draw(self, images: Tensor, draws: Draws) -> Tensor:
        return draws.normal(*images.shape[1:], purpose="noise", device=images.device).to(images.dtype)

    def strength_for(self, images: Tensor, rms: Tensor) -> Tensor:
        return rms


@THREATS.register("uniform")
@dataclass(frozen=True)
class Uniform(Additive):
    """Noise of which all sizes up to a width are equally likely."""

    width: float | Tensor | None = parameter("largest size of the noise, to either side", None)
    snr: float | None = parameter(SNR, None)
    seed: int = parameter("of the noise", 0)
    strength_is = "width"

    def draw(self, images: Tensor, draws: Draws) -> Tensor:
        return draws.uniform(*images.shape[1:], purpose="noise", device=images.device).to(images.dtype) * 2 - 1

    def strength_for(self, images: Tensor, rms: Tensor) -> Tensor:
        return rms * 3**0.5


@THREATS.register("speckle")
@dataclass(frozen=True)
class Speckle(Additive):
    """Gaussian noise in proportion to the light, as in radar and ultrasound."""

    std: float | Tensor | None = parameter("standard deviation as a share of the light", None)
    snr: float | None = parameter(SNR, None)
    seed: int = parameter("of the noise", 0)
    strength_is = "std"

    def draw(self, images: Tensor, draws: Draws) -> Tensor:
        return images * draws.normal(*images.shape[1:], purpose="noise", device=images.device).to(images.dtype)

    def strength_for(self, images: Tensor, rms: Tensor) -> Tensor:
        return rms / images.flatten(1).double().square().mean(1).sqrt().clamp_min(1e-12)


@THREATS.register("salt_pepper")
@dataclass(frozen=True)
class SaltPepper(Noise):
    """A share of the pixels, in all channels, turns black or white."""

    amount: float | Tensor | None = parameter("share of the pixels that is hit, half of them white", None)
    snr: float | None = parameter(SNR, None)
    seed: int = parameter("of the noise", 0)
    strength_is = "amount"
    most = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amount is not None and bool((torch.as_tensor(self.amount) > 1).any()):
            raise UserError(f"amount={self.amount}", "a share lies in [0, 1]")

    def draw(self, images: Tensor, draws: Draws) -> Tensor:
        return draws.uniform(1, *images.shape[2:], purpose="noise", device=images.device)

    def blend(self, images: Tensor, draw: Tensor, strength: Tensor) -> Tensor:
        return struck(images, draw, strength)

    def strength_for(self, images: Tensor, rms: Tensor) -> Tensor:
        # A pixel x that is hit moves to 0 or 1: by x squared or (1 - x) squared, each for half of the hits.
        per_hit = (0.5 - images.double() + images.double().square()).flatten(1).mean(1)
        return (rms.square() / per_hit).clamp_max(1)


def struck(images: Tensor, chance: Tensor, amount: float | Tensor) -> Tensor:
    """Images far above white or below black where `chance`, uniform in [0, 1), is below `amount`; not yet clamped."""
    # The draw's last of 24 bits says nothing of its size: it is the coin that chooses, whatever the amount. Sums are
    # many times faster than choices between two values, whose outcome a processor cannot foresee.
    coin = (chance * 2**24).int().bitwise_and_(1)
    push = torch.lt(chance, amount, out=torch.empty_like(chance)).mul_(coin.mul_(4).sub_(2))
    return images + push.to(images.dtype)
