"""Flat shapes as signed distances: negative inside, positive outside, in the units of the plane. y points up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

Point = tuple[float, float]
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]  # x and y of points -> their signed distances


def disc(x: float, y: float, radius: float) -> Shape:
    """
    >>> disc(0, 0, 1)(np.array([0.0, 3.0]), np.array([0.0, 4.0]))
    array([-1.,  4.])
    """
    return lambda px, py: np.sqrt((px - x) ** 2 + (py - y) ** 2) - radius


def stroke(points: Sequence[Point], width: float) -> Shape:
    """A line of round ends through `points`."""
    return lambda px, py: _to_edges(points, px, py) - width / 2


def polygon(points: Sequence[Point], rounding: float = 0.0) -> Shape:
    """The area within `points`, grown by `rounding`, which rounds its corners."""

    def distance(px: np.ndarray, py: np.ndarray) -> np.ndarray:
        edge = _to_edges([*points, points[0]], px, py)
        inside = np.zeros(px.shape, bool)
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
            if ay != by:  # a ray to the right of an inner point crosses the outline an odd number of times
                inside ^= ((ay > py) != (by > py)) & (px < (bx - ax) * (py - ay) / (by - ay) + ax)
        return np.where(inside, -edge, edge) - rounding

    return distance


def box(left: float, bottom: float, right: float, top: float, rounding: float = 0.0) -> Shape:
    return polygon([(left, bottom), (right, bottom), (right, top), (left, top)], rounding)


def regular(corners: int, radius: float, turn: float = 0.0, rounding: float = 0.0) -> Shape:
    """A regular polygon whose rounded corners touch the circle of `radius`; `turn` degrees from one that points up."""
    turns = [90 + turn + 360 * k / corners for k in range(corners)]
    return polygon([_on_ellipse(0, 0, radius - rounding, radius - rounding, angle) for angle in turns], rounding)


def arc(x: float, y: float, width: float, height: float, start: float, end: float, pieces: int = 16) -> list[Point]:
    """Points on an ellipse of half axes `width` and `height`, from `start` to `end` degrees.

    >>> arc(0, 0, 1, 1, 0, 90, pieces=1)
    [(1.0, 0.0), (0.0, 1.0)]
    """
    return [_on_ellipse(x, y, width, height, start + (end - start) * k / pieces) for k in range(pieces + 1)]


def arrowhead(x: float, y: float, towards: float, size: float) -> Shape:
    """A triangle with its base at (x, y) that points `towards` an angle in degrees."""
    return polygon([_on_ellipse(x, y, size, size, towards + turn) for turn in (0, 90, -90)])


def union(*shapes: Shape) -> Shape:
    return lambda px, py: np.minimum.reduce([shape(px, py) for shape in shapes])


def without(shape: Shape, *holes: Shape) -> Shape:
    return lambda px, py: np.maximum.reduce([shape(px, py), *(-hole(px, py) for hole in holes)])


def both(one: Shape, other: Shape) -> Shape:
    return lambda px, py: np.maximum(one(px, py), other(px, py))


def placed(shape: Shape, x: float, y: float, scale: float) -> Shape:
    """`shape`, shrunk by `scale` and then moved to (x, y)."""
    return lambda px, py: shape((px - x) / scale, (py - y) / scale) * scale


def mirrored(shape: Shape) -> Shape:
    """Left and right exchanged."""
    return lambda px, py: shape(-px, py)


def _on_ellipse(x: float, y: float, width: float, height: float, degrees: float) -> Point:
    angle = math.radians(degrees)
    # Rounded, so that platforms whose sine differs in the last bit draw the same shape.
    return round(x + width * math.cos(angle), 6) + 0.0, round(y + height * math.sin(angle), 6) + 0.0


def _to_edges(points: Sequence[Point], px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Distance to the nearest piece of the line through `points`."""
    nearest = np.full(px.shape, np.inf)
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        dx, dy = bx - ax, by - ay
        along = ((px - ax) * dx + (py - ay) * dy) / max(dx * dx + dy * dy, 1e-12)
        along = np.clip(along, 0.0, 1.0)
        nearest = np.minimum(nearest, (px - ax - along * dx) ** 2 + (py - ay - along * dy) ** 2)
    return np.sqrt(nearest)
