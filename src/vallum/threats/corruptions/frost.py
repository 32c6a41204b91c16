"""Frost on the lens: ice crystals over the image. The textures are grown here, not photographed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths

SIDE = 384  # of a texture, whose edges fit together


@dataclass(frozen=True)
class Ice:
    """How one pane looks: mean colour, contrast, crystals on it and their shape, and how cloudy it is between them."""

    colour: tuple[float, float, float]
    contrast: float
    crystals: int
    length: float  # of a crystal over its width
    barbs: float  # how far its ribs lean away from its axis, as on a feather; 0: plain needles
    cloudy: float

    @property
    def feathers(self) -> bool:
        return self.barbs > 0.5


PANES = (
    Ice((0.31, 0.58, 0.65), 0.070, 500, 3.0, 0.3, 0.6),
    Ice((0.79, 0.80, 0.84), 0.085, 500, 4.0, 0.2, 0.45),
    Ice((0.79, 0.80, 0.84), 0.085, 400, 5.0, 0.4, 0.45),
    Ice((0.54, 0.60, 0.65), 0.110, 800, 2.0, 0.7, 0.5),
    Ice((0.44, 0.48, 0.53), 0.165, 340, 3.0, 1.0, 0.5),
)


def _cloud(stream: np.random.Generator, slope: float) -> np.ndarray:
    """(SIDE, SIDE) noise whose amplitude falls with frequency to the power of `slope`, of mean 0 and deviation 1."""
    across, down = np.fft.rfftfreq(SIDE), np.fft.fftfreq(SIDE)[:, None]
    frequency = np.hypot(across, down)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(stream.standard_normal((SIDE, SIDE))) * frequency**-slope
    cloud = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return (cloud - cloud.mean()) / cloud.std()


@lru_cache(maxsize=len(PANES))
def pane(number: int) -> np.ndarray:
    """(3, SIDE, SIDE) in [0, 1], always the same; growing one takes about half a second, once in a process.

    Crystals lie over each other at random places and angles: along its axis each is bright, ribs run off to both
    sides, and it fades towards its rim. A later crystal hides what lies under it.
    """
    ice = PANES[number]
    stream = np.random.Generator(np.random.Philox(number))
    height = np.full((SIDE, SIDE), -0.6, np.float32)
    for _ in range(ice.crystals):
        size = 11 * np.exp(0.4 * stream.standard_normal())
        reach = min(size * ice.length, SIDE / 2 - 1)
        angle = stream.uniform(0, 2 * np.pi)
        cos, sin = np.cos(angle), np.sin(angle)
        wide, high = int(np.hypot(reach * cos, size * sin)) + 1, int(np.hypot(reach * sin, size * cos)) + 1
        y, x = np.mgrid[-high : high + 1, -wide : wide + 1].astype(np.float32)
        along, beside = x * cos + y * sin, y * cos - x * sin
        rim = 1 - (along / reach) ** 2 - (beside / size) ** 2
        ribs = stream.standard_normal(4 * int(reach) + 4).astype(np.float32).repeat(2)
        place = along + abs(beside) * ice.barbs if ice.feathers else beside * 2 + along * ice.barbs * 0.1
        glow = 0.5 * stream.standard_normal() + 0.7 * ribs[place.astype(int) % len(ribs)]
        if ice.feathers:
            glow += 1.5 * np.exp(-abs(beside) / 1.5)
        covers = np.clip(rim * 2, 0, 1) * stream.uniform(0.4, 1)
        top, left = stream.integers(SIDE, size=2)
        rows, columns = np.ix_((top + np.arange(2 * high + 1)) % SIDE, (left + np.arange(2 * wide + 1)) % SIDE)
        height[rows, columns] += covers * (glow - height[rows, columns])
    height = (height - height.mean()) / height.std()
    height = (1 - ice.cloudy) * height + ice.cloudy * _cloud(stream, 1.6)
    height /= height.std()
    tint = 0.25 * _cloud(stream, 2.0)
    colour = np.array(ice.colour)[:, None, None]
    shade = np.array([1.1, 1.0, 0.95])[:, None, None]
    return np.clip(colour + ice.contrast * (height * shade + tint), 0, 1).astype(np.float32)


@lru_cache(maxsize=16)
def _panes(scale: float) -> Tensor:
    """(P, 3, side, side)."""
    whole = torch.from_numpy(np.stack([pane(number) for number in range(len(PANES))]))
    side = round(SIDE * scale)
    return whole if side == SIDE else F.interpolate(whole, size=(side, side), mode="area")


@THREATS.register("frost")
@dataclass(frozen=True)
class Frost(Corruption):
    """Strength: what is left of the image, how much of the ice is added, and the size of the ice."""

    strengths = Strengths(
        imagenet=[(1, 0.4, 1), (0.8, 0.6, 1), (0.7, 0.7, 1), (0.65, 0.7, 1), (0.6, 0.75, 1)],
        tiny=[(1, 0.3, 0.3), (0.9, 0.4, 0.3), (0.8, 0.45, 0.3), (0.75, 0.5, 0.3), (0.7, 0.55, 0.3)],
        cifar=[(1, 0.2, 0.2), (1, 0.3, 0.2), (0.9, 0.4, 0.2), (0.85, 0.4, 0.2), (0.75, 0.45, 0.2)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        kept, added, scale = strength
        ice = _crops(_panes(scale), images, draws).to(images)
        if images.shape[1] == 1:
            ice = ice.mean(1, keepdim=True)
        return ice.mul_(added).add_(images, alpha=kept)


def _crops(panes: Tensor, images: Tensor, draws: Draws) -> Tensor:
    """(N, 3, H, W): for each image a pane, and a place on it."""
    height, width = images.shape[2:]
    side = panes.shape[2]
    which = draws.integers(len(panes), 1, purpose="pane")[:, 0].tolist()
    corners = draws.integers(side, 2, purpose="place").tolist()
    crops = []
    for number, (top, left) in zip(which, corners, strict=True):
        strips = [
            torch.cat([panes[number, :, rows, columns] for columns in _around(left, width, side)], 2)
            for rows in _around(top, height, side)
        ]
        crops.append(torch.cat(strips, 1))
    return torch.stack(crops)


def _around(start: int, length: int, side: int) -> list[slice]:
    """The pieces of a ring of `side` places that `length` places from `start` on lie in."""
    pieces = []
    while length > 0:
        end = min(side, start + length)
        pieces.append(slice(start, end))
        start, length = 0, length - (end - start)
    return pieces
