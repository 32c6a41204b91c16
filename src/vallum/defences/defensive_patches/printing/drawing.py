"""What is printed, before it is a PDF or a PNG: things at places in millimetres, down and right from a corner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = tuple[int, int, int]
BLACK, GREY, WHITE = (0, 0, 0), (128, 128, 128), (255, 255, 255)
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    width: float
    height: float
    colour: Colour = BLACK


@dataclass(frozen=True)
class Line:
    """A straight one; `dash` is as long as its gaps, 0 for an unbroken line."""

    start: tuple[float, float]
    end: tuple[float, float]
    thick: float = 0.2
    dash: float = 0.0
    colour: Colour = BLACK


@dataclass(frozen=True)
class Text:
    """On a base line; `size` is that of the font, made smaller where the text would be wider than `room`."""

    x: float
    base: float
    size: float
    text: str
    room: float
    align: Literal["left", "middle", "right"] = "left"
    bold: bool = False
    colour: Colour = BLACK


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels (h, w, 3) uint8 as squares with sharp edges; those where `there` (h, w) is false stay paper."""

    left: float
    top: float
    width: float
    height: float
    pixels: np.ndarray
    there: np.ndarray

    def on_paper(self) -> np.ndarray:
        return np.where(self.there[..., None], self.pixels, np.uint8(255))


@dataclass(frozen=True)
class Window:
    """Squares that are cut out: `there` (h, w) over this rectangle. Clear in a PNG, paper in a PDF."""

    left: float
    top: float
    width: float
    height: float
    there: np.ndarray


Item = Box | Line | Text | Picture | Window
Drawing = Sequence[Item]


def outline(there: np.ndarray, left: float, top: float, side: float) -> Iterator[Line]:
    """The edges between the pixels (h, w) that are there and all others, straight runs in one piece."""
    padded = np.pad(there, 1)
    for across in (False, True):
        edges = np.diff((padded.T if across else padded).astype(np.int8), axis=0) != 0
        for row, line in enumerate(edges):
            for start, end in runs(line[1:-1]):
                near, from_, to = row * side, start * side, end * side
                (x, y), (x2, y2) = ((near, from_), (near, to)) if across else ((from_, near), (to, near))
                yield Line((left + x, top + y), (left + x2, top + y2), thick=0.1, dash=1.5, colour=GREY)


def runs(there: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of true begin and end."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


def scale_bar(right: float, base: float, room: float, tall: float) -> list[Item]:
    """A ruler that ends at `right`: as long as 1, 2 or 5 times a power of ten allow, with a tick at each tenth."""
    length = bar_length(room)
    left, ticks = right - length, 10
    marks: list[Item] = [Line((left, base), (right, base), 0.3)]
    for tick in range(ticks + 1):
        high = tall * (0.36 if tick in (0, ticks) else 0.28 if tick == ticks // 2 else 0.18)
        x = left + length * tick / ticks
        marks.append(Line((x, base), (x, base - high), 0.2))
    marks.append(Text((left + right) / 2, base + 0.42 * tall, 0.32 * tall, f"{length:g} mm", length, "middle"))
    return marks


def bar_length(room: float) -> float:
    """The longest round length that fits.

    >>> bar_length(260.0), bar_length(99.0)
    (200.0, 50.0)
    """
    return max(
        (factor * 10.0**power for power in range(-1, 4) for factor in (1, 2, 5) if factor * 10.0**power <= room),
        default=room,
    )
