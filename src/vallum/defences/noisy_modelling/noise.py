"""How strong the noise is: one standard deviation for all images, or one drawn for each from a law."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vallum.errors import UserError, did_you_mean
from vallum.images import Draws
from vallum.specs import read_value, write_value


class NoiseLaw:
    """A distribution of standard deviations, in units of pixels in [0, 1]; its text is what a spec says."""

    def draw(self, draws: Draws) -> Tensor:
        """One for each image, (N,), whatever batch it is in."""
        raise NotImplementedError

    def __str__(self) -> str:
        values = ",".join(write_value(getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__.lower()}({values})"

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise UserError(f"{field.name}={value:g} in {self}", "it is finite and not negative")
            if value > 3 and field.name in ("sigma", "low", "high", "median"):
                raise UserError(f"{field.name}={value:g}", "pixels are in [0, 1]", f"write {value:g}/255")


@dataclass(frozen=True)
class Fixed(NoiseLaw):
    """The same for every image."""

    sigma: float

    def draw(self, draws: Draws) -> Tensor:
        return torch.full((len(draws),), self.sigma)


@dataclass(frozen=True)
class Uniform(NoiseLaw):
    """As likely anywhere between two bounds."""

    low: float
    high: float

    def draw(self, draws: Draws) -> Tensor:
        return self.low + (self.high - self.low) * draws.uniform(purpose="sigma")


@dataclass(frozen=True)
class Gamma(NoiseLaw):
    """Around shape * scale, with a standard deviation of that over the root of the shape."""

    shape: float
    scale: float

    def draw(self, draws: Draws) -> Tensor:
        return torch.tensor([stream.gamma(self.shape, self.scale) for stream in draws.each("sigma")]).float()


@dataclass(frozen=True)
class LogNormal(NoiseLaw):
    """Half of them below the median, the logarithm with this standard deviation."""

    median: float
    spread: float

    def draw(self, draws: Draws) -> Tensor:
        return self.median * (self.spread * draws.normal(purpose="sigma")).exp()


LAWS: dict[str, type[NoiseLaw]] = {"fixed": Fixed, "uniform": Uniform, "gamma": Gamma, "lognormal": LogNormal}
PRESETS = {  # those of "Beyond Pretrained Features: Noisy Image Modeling Provides Adversarial Defense" (2023)
    "paper": Gamma(25, 3 / 255),
    "paper_uniform": Uniform(0.0, 150 / 255),
    "paper_finetuning": Uniform(0.0, 30 / 255),
}


def noise_law(text: str) -> NoiseLaw:
    """The law that a text names; a number alone is a fixed one.

    >>> noise_law("gamma(25,3/255)"), noise_law("0.25"), noise_law("paper_uniform")
    (Gamma(shape=25.0, scale=0.0117...), Fixed(sigma=0.25), Uniform(low=0.0, high=0.588...))
    """
    text = text.strip()
    if text in PRESETS:
        return PRESETS[text]
    name, bracket, inside = text.partition("(")
    if not bracket:
        name, inside = "fixed", f"{text})"
    if name not in LAWS or not inside.endswith(")"):
        near = did_you_mean(name, [*LAWS, *PRESETS])
        raise UserError(
            f"no law of noise is called {text!r}", "as uniform(0,0.5), gamma(25,3/255), 0.25 or paper", near
        )
    made = LAWS[name]
    wanted = [field.name for field in fields(made)]  # type: ignore[arg-type]
    given = inside[:-1].split(",")
    if len(given) != len(wanted):
        raise UserError(f"{text!r} has {len(given)} numbers", f"{name}({', '.join(wanted)})")
    if not bracket and not any(letter.isdigit() for letter in text):
        raise UserError(f"no law of noise is called {text!r}", remedy=did_you_mean(text, [*LAWS, *PRESETS]))
    return made(
        *(read_value(one.strip(), float, f"{what} in {text!r}") for what, one in zip(wanted, given, strict=True))
    )


def add_noise(images: Tensor, sigma: Tensor | float, draws: Draws) -> Tensor:
    """Gaussian noise of this standard deviation on every pixel; what leaves [0, 1] is left there."""
    noise = draws.normal(*images.shape[1:], purpose="noise", device=images.device).to(images.dtype)
    if isinstance(sigma, Tensor):
        sigma = sigma.to(images).view(-1, 1, 1, 1)
    return images + sigma * noise
