"""What is optimised in place of colours, so that every colour on the way is one that can be shown, or printed.

A pixel that is clamped has no gradient and stays where it is; one that is computed by a sigmoid, or mixed from inks,
never leaves its range and never dies.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import Registry, parameter

# Of red, green and blue, as photographed from prints by Eykholt et al. 2018 (arXiv 1707.08945): darker and duller.
PRINTED = ((0.075, 0.761), (0.055, 0.757), (0.110, 0.659))
FULL = 6.24  # sigmoid of it is within 1/512 of 1: beyond, nothing changes but the gradient, which vanishes


class Colours:
    """Subclasses are frozen dataclasses: (..., D, h, w) numbers that are free, and (..., 3, h, w) colours of them."""

    channels: ClassVar[int] = 3  # D
    lr: ClassVar[float]  # of Adam, on those numbers

    @property
    def spec(self) -> str:
        return COLOURS.spec(self)

    def start(self, draws: Draws, *shape: int) -> Tensor:
        """Where a search begins: mid-grey, with a little noise, (N, *shape) for N draws."""
        return 0.1 * draws.normal(self.channels, *shape, purpose="start")

    def show(self, numbers: Tensor, progress: float = 1.0) -> Tensor:
        """The colours; `progress` is the share of the search that is done."""
        raise NotImplementedError

    def of(self, colours: Tensor) -> Tensor:
        """Numbers that show these colours, or the nearest that there are."""
        raise NotImplementedError

    def settle(self, numbers: Tensor) -> None:
        """Called after each step: keep the numbers, in place, where they can still move."""

    def final(self, numbers: Tensor) -> Tensor:
        """What is kept in the end: colours of eight bits, so that the picture printed is the patch measured."""
        return (self.show(numbers) * 255).round() / 255


COLOURS: Registry[Colours] = Registry("colour space")


@COLOURS.register("box")
@dataclass(frozen=True)
class Box(Colours):
    """Every colour of a screen, by a sigmoid for each channel.

    >>> box = Box(low=0.1, high=0.9)
    >>> round(float(box.show(box.of(torch.full((1, 3, 1, 1), 0.3))).mean()), 3)
    0.3
    """

    low: float = parameter("darkest value of a channel", 0.0)
    high: float = parameter("brightest", 1.0)

    lr: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise UserError(f"colours from {self.low:g} to {self.high:g}", "0 <= low < high <= 1")

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        ends = torch.tensor([[self.low] * 3, [self.high] * 3]).to(like)
        return ends[0].view(3, 1, 1), ends[1].view(3, 1, 1)

    def show(self, numbers: Tensor, progress: float = 1.0) -> Tensor:
        low, high = self.bounds(numbers)
        return low + (high - low) * numbers.sigmoid()

    def of(self, colours: Tensor) -> Tensor:
        low, high = self.bounds(colours)
        return ((colours - low) / (high - low)).clamp(1 / 512, 511 / 512).logit()

    def settle(self, numbers: Tensor) -> None:
        numbers.clamp_(-FULL, FULL)

    def final(self, numbers: Tensor) -> Tensor:
        low, high = ((end * 255) for end in self.bounds(numbers))
        return torch.maximum(torch.minimum((self.show(numbers) * 255).round(), high.floor()), low.ceil()) / 255


@COLOURS.register("print")
@dataclass(frozen=True)
class Print(Box):
    """The range of each channel that a printer reaches: a sigmoid between its darkest and its brightest."""

    low: float = parameter("darkest of any channel, where it is more than the printer's own", 0.0)
    high: float = parameter("brightest of any channel, where it is less than the printer's own", 1.0)

    def bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        ends = torch.tensor(PRINTED).clamp(self.low, self.high).to(like)
        return ends[:, 0].view(3, 1, 1), ends[:, 1].view(3, 1, 1)


@COLOURS.register("palette")
@dataclass(frozen=True)
class Palette(Colours):
    """A few inks: each pixel is a mixture of them that sharpens as the search goes on, and in the end one of them.

    >>> Palette(levels=2).inks.shape
    torch.Size([8, 3])
    """

    levels: int = parameter("shades of each channel, evenly from the darkest to the brightest that prints", 3)
    sharpest: float = parameter("temperature of the mixture at the end; it begins at 1", 0.1)

    lr: ClassVar[float] = 0.2

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 6 or not 0 < self.sharpest <= 1:
            raise UserError(self.spec, "2 to 6 levels, and a temperature in (0, 1]")

    @property
    def channels(self) -> int:  # type: ignore[override]
        return int(self.levels**3)

    @property
    def inks(self) -> Tensor:
        """(K, 3), each a colour of eight bits."""
        ends = [(math.ceil(255 * low), math.floor(255 * high)) for low, high in PRINTED]
        shades = [torch.linspace(*one, self.levels).round().div(255).tolist() for one in ends]
        return torch.tensor(list(itertools.product(*shades)))

    def show(self, numbers: Tensor, progress: float = 1.0) -> Tensor:
        shares = (numbers / self.sharpest**progress).softmax(-3)
        return torch.einsum("...khw,kc->...chw", shares, self.inks.to(numbers))

    def of(self, colours: Tensor) -> Tensor:
        apart = (colours[..., None, :, :, :] - self.inks.to(colours)[:, :, None, None]).square().sum(-3)
        return -8 * apart  # the nearest ink most, the others less as they are farther

    def settle(self, numbers: Tensor) -> None:
        numbers -= numbers.mean(-3, keepdim=True)  # which changes no mixture

    def final(self, numbers: Tensor) -> Tensor:
        return self.inks.to(numbers)[numbers.argmax(-3)].movedim(-1, -3)


@COLOURS.register("pixels")
@dataclass(frozen=True)
class Pixels(Colours):
    """The colours themselves, cut off at 0 and 1 after each step, as published procedures do."""

    lr: ClassVar[float] = 0.015

    def start(self, draws: Draws, *shape: int) -> Tensor:
        return 0.5 + super().start(draws, *shape)

    def show(self, numbers: Tensor, progress: float = 1.0) -> Tensor:
        return numbers.clamp(0, 1)

    def of(self, colours: Tensor) -> Tensor:
        return colours.clone()

    def settle(self, numbers: Tensor) -> None:
        numbers.clamp_(0, 1)


def colours(spec: str | Colours) -> Colours:
    """What a spec names; a colour space itself comes back as it is."""
    return COLOURS.parse(spec) if isinstance(spec, str) else spec


def roughness(patches: Tensor, mask: Tensor) -> Tensor:
    """Mean difference between neighbours that are both in the mask (total variation), in [0, 1]."""
    down, across = mask[1:] * mask[:-1], mask[:, 1:] * mask[:, :-1]
    tall = ((patches[..., 1:, :] - patches[..., :-1, :]).abs() * down).sum()
    wide = ((patches[..., 1:] - patches[..., :-1]).abs() * across).sum()
    return (tall + wide) / (patches[..., 0, 0].numel() * (down.sum() + across.sum()).clamp_min(1))


def unprintability(patches: Tensor, mask: Tensor) -> Tensor:
    """Mean distance of a pixel to the nearest of 64 colours that print: what the product over all of them stands for.

    The product itself (Sharif et al. 2016) underflows in float32 with 30 colours or more.
    """
    pixels = patches.movedim(-3, -1)[..., mask > 0, :]  # (..., P, 3)
    return torch.cdist(pixels.reshape(-1, 3), Palette(levels=4).inks.to(patches)).amin(1).mean()
