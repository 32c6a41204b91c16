"""What painters of surfaces are given, and what they paint with: edges as sharp as a sample allows and no sharper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_light import Light

F = np.float32
Number = float | np.float32 | np.ndarray


@dataclass(frozen=True)
class Scene:
    """What painters know of everything: tables by surface, as ids number them."""

    city: City
    light: Light
    camera: np.ndarray  # (3,) where it is
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
class Points:
    """Samples of one paint."""

    scene: Scene
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    row: np.ndarray
    surface: np.ndarray
    footprint: np.ndarray  # metres between samples on a surface that faces the camera
    slant: np.ndarray  # by how much more that is along a surface that does not

    def colour(self) -> np.ndarray:
        return self.scene.colour.take(self.row, 1)

    def along(self) -> np.ndarray:
        """Metres along the face from where it begins."""
        line = np.where(self.scene.along_x[self.surface], self.x, self.z)
        return line - self.scene.begin[self.surface]

    def middle(self) -> np.ndarray:
        """Metres along the face from its middle, in the solid's own direction."""
        return (self.along() - self.scene.length[self.surface] * F(0.5)) * self.scene.flip[self.surface]


def cover(inside: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """The share of a sample within an edge, from the distance inside it."""
    return np.clip(inside / footprint + F(0.5), 0, 1)


def between(value: np.ndarray, low: Number, high: Number, footprint: np.ndarray) -> np.ndarray:
    return cover(np.minimum(value - low, high - value), footprint)


def part(values: np.ndarray) -> np.ndarray:
    """What is left of positive numbers after the point."""
    return values - np.floor(values)


def mix(one: np.ndarray, other: Number | tuple[float, ...], amount: np.ndarray) -> np.ndarray:
    if isinstance(other, tuple):
        other = np.array(other, F)[:, None]
    return one + (other - one) * amount
