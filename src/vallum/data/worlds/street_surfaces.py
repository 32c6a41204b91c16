"""What painters of surfaces are given, and what they paint with: edges as sharp as a sample allows and no sharper."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_eye import BALL
from vallum.data.worlds.street_light import Light

F = np.float32
Number = float | np.float32 | np.ndarray


@dataclass(frozen=True)
class Scene:
    """What painters know of everything: tables by row and by surface, as ids number them."""

    city: City
    light: Light
    camera: np.ndarray  # (3, rows) where the camera is whose frame shows the row
    colour: np.ndarray  # (3, rows)
    second: np.ndarray  # (3, rows)
    pattern: np.ndarray  # (4, rows)
    seed: np.ndarray  # (rows,)
    y0: np.ndarray
    y1: np.ndarray
    side: np.ndarray  # (rows * FACES,) the face's name in the solid's own axes
    begin: np.ndarray  # where the face begins along itself
    length: np.ndarray
    lean: np.ndarray  # (2, rows * FACES) how its two edges lean in
    along_x: np.ndarray  # whether x is the coordinate along the face, else z
    flip: np.ndarray  # -1 where that runs against the solid's own axis


@dataclass(frozen=True)
class Samples:
    """Every sample of one or several frames."""

    place: np.ndarray  # (3, n) x, y and z in the world
    directions: np.ndarray  # (3, n) of the rays
    row: np.ndarray
    surface: np.ndarray
    footprint: np.ndarray  # metres between samples on a surface that faces the camera


@dataclass(frozen=True)
class Points:
    """Samples of one paint; what of them it does not ask for is not gathered."""

    scene: Scene
    samples: Samples
    where: np.ndarray

    @cached_property
    def x(self) -> np.ndarray:
        return self.samples.place[0].take(self.where)

    @cached_property
    def y(self) -> np.ndarray:
        return self.samples.place[1].take(self.where)

    @cached_property
    def z(self) -> np.ndarray:
        return self.samples.place[2].take(self.where)

    @cached_property
    def row(self) -> np.ndarray:
        return self.samples.row.take(self.where)

    @cached_property
    def surface(self) -> np.ndarray:
        return self.samples.surface.take(self.where)

    @cached_property
    def side(self) -> np.ndarray:
        return self.scene.side.take(self.surface)

    @cached_property
    def footprint(self) -> np.ndarray:
        return self.samples.footprint.take(self.where)

    @cached_property
    def slant(self) -> np.ndarray:
        """By how much further two samples side by side lie apart than on a surface that faces the camera."""
        x, y, z = np.abs(self.samples.directions.take(self.where, 1))
        face = self.surface & 7
        wall, flank, least = face < 4, face < 2, F(0.02)
        above = np.where(wall, np.where(flank, z, x), np.maximum(x, z))
        below = np.maximum(np.where(wall, np.where(flank, x, z), y), least)
        return 1 + np.where(face == BALL, 0, above / below)

    def colour(self) -> np.ndarray:
        return self.scene.colour.take(self.row, 1)

    @cached_property
    def along(self) -> np.ndarray:
        """Metres along the face from where it begins."""
        line = np.where(self.scene.along_x.take(self.surface), self.x, self.z)
        return line - self.scene.begin.take(self.surface)

    @cached_property
    def middle(self) -> np.ndarray:
        """Metres along the face from its middle, in the solid's own direction."""
        length, flip = self.scene.length.take(self.surface), self.scene.flip.take(self.surface)
        return (self.along - length * F(0.5)) * flip


def within(values: np.ndarray, low: Number, high: Number) -> np.ndarray:
    """What np.clip does, at a third of its cost for short arrays."""
    return np.minimum(np.maximum(values, low), high)


def cover(inside: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """The share of a sample within an edge, from the distance inside it."""
    share = inside / footprint
    share += F(0.5)
    np.maximum(share, 0, out=share)
    return np.minimum(share, 1, out=share)


def between(value: np.ndarray, low: Number, high: Number, footprint: np.ndarray) -> np.ndarray:
    return cover(np.minimum(value - low, high - value), footprint)


def part(values: np.ndarray) -> np.ndarray:
    """What is left of positive numbers after the point."""
    return values - np.floor(values)


def mix(one: np.ndarray, other: Number | tuple[float, ...], amount: np.ndarray) -> np.ndarray:
    if isinstance(other, tuple):
        other = np.array(other, F)[:, None]
    return one + (other - one) * amount
