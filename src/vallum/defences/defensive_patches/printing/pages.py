"""Drawings on sheets of paper: each on a page of its own size, many on one, or one over many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vallum.defences.defensive_patches.printing.drawing import GREY, Drawing, Item, Line, Rectangle, Text
from vallum.defences.defensive_patches.printing.lengths import said
from vallum.errors import UserError


@dataclass(frozen=True)
class Block:
    """Something to print, and the rectangle that it takes up."""

    name: str
    bounds: Rectangle
    drawing: Drawing

    @property
    def size(self) -> tuple[float, float]:
        return self.bounds[2] - self.bounds[0], self.bounds[3] - self.bounds[1]


@dataclass(frozen=True)
class Placed:
    """A drawing whose corner (0, 0) lies at (x, y) on the page; nothing of it shows outside of `clip`, on the page."""

    drawing: Drawing
    x: float
    y: float
    clip: Rectangle | None = None


@dataclass(frozen=True)
class Page:
    width: float
    height: float
    placed: Sequence[Placed]


def own_pages(blocks: Sequence[Block], margin: float) -> list[Page]:
    """A page for each, as large as it needs to be."""
    pages = []
    for block in blocks:
        wide, tall = block.size
        shown = Placed(block.drawing, margin - block.bounds[0], margin - block.bounds[1])
        pages.append(Page(wide + 2 * margin, tall + 2 * margin, [shown]))
    return pages


def sheets(blocks: Sequence[Block], sheet: tuple[float, float], margin: float, remedy: str = "") -> list[Page]:
    """As many on each sheet as fit, upright or across, whichever holds more; `remedy`: what to do if none does."""
    wide, tall = (max(sizes) for sizes in zip(*(block.size for block in blocks), strict=True))
    ways = [(sides, *_grid(sides, (wide, tall), margin)) for sides in (sheet, sheet[::-1])]
    (width, height), columns, rows = max(ways, key=lambda way: way[1] * way[2])
    if columns * rows == 0:
        raise UserError(
            f"{blocks[0].name} takes {said(wide)} by {said(tall)} with its crop marks",
            f"a sheet of {said(sheet[0])} by {said(sheet[1])} leaves {said(sheet[0] - 2 * margin)} by "
            f"{said(sheet[1] - 2 * margin)} within its margins",
            remedy,
        )
    step_x, step_y = (width - 2 * margin) / columns, (height - 2 * margin) / rows
    pages, count = [], columns * rows
    total = math.ceil(len(blocks) / count)
    for first in range(0, len(blocks), count):
        placed = []
        for place, block in enumerate(blocks[first : first + count]):
            row, column = divmod(place, columns)
            left = margin + column * step_x + (step_x - block.size[0]) / 2
            top = margin + row * step_y + (step_y - block.size[1]) / 2
            placed.append(Placed(block.drawing, left - block.bounds[0], top - block.bounds[1]))
        placed.append(_footer(width, height, margin, f"page {first // count + 1} of {total} · print at 100 %"))
        pages.append(Page(width, height, placed))
    return pages


def tiles(blocks: Sequence[Block], sheet: tuple[float, float], margin: float, overlap: float) -> list[Page]:
    """Each over as many sheets as it needs, which overlap: cut along the dashed line, lay it on its neighbour's."""
    pages = []
    for block in blocks:
        ways = [(sides, [_spans(*pair, margin, overlap) for pair in zip(block.size, sides, strict=True)]) for sides in
                (sheet, sheet[::-1])]  # fmt: skip
        (width, height), (across, down) = min(ways, key=lambda way: len(way[1][0]) * len(way[1][1]))
        for row, (top, bottom) in enumerate(down):
            for column, (left, right) in enumerate(across):
                x, y = margin - left - block.bounds[0], margin - top - block.bounds[1]
                clip = (margin, margin, margin + right - left, margin + bottom - top)
                place = f"{block.name} · row {row + 1} of {len(down)}, column {column + 1} of {len(across)}"
                help_ = (
                    f"cut along the dashed lines, join crosses on crosses · print at 100 % · overlap {said(overlap)}"
                )
                pages.append(
                    Page(width, height, [
                        Placed(block.drawing, x, y, clip),
                        Placed(_seams(block, across, down, overlap), x, y, clip),
                        _footer(width, height, margin, f"{place} · {help_}"),
                    ])
                )  # fmt: skip
    return pages


def _grid(sheet: tuple[float, float], size: tuple[float, float], margin: float) -> tuple[int, int]:
    columns, rows = (max(int((side - 2 * margin) / own + 1e-9), 0) for side, own in zip(sheet, size, strict=True))
    return columns, rows


def _spans(length: float, side: float, margin: float, overlap: float) -> list[tuple[float, float]]:
    """The parts of a length that each sheet shows, equally long, each overlapping the next."""
    room = side - 2 * margin
    if room <= 2 * overlap:
        raise UserError(
            f"a sheet {said(side)} long", f"its margins and overlaps take {said(2 * margin + 2 * overlap)}",
            "take larger paper, or a smaller --overlap",
        )  # fmt: skip
    count = max(math.ceil((length - overlap) / (room - overlap) - 1e-9), 1)
    shown = (length + (count - 1) * overlap) / count
    return [(place * (shown - overlap), place * (shown - overlap) + shown) for place in range(count)]


def _seams(
    block: Block, across: Sequence[tuple[float, float]], down: Sequence[tuple[float, float]], overlap: float
) -> list[Item]:
    """Dashed lines in the middle of each overlap, and crosses on them that two sheets share."""
    left, top, right, bottom = block.bounds
    xs = [left + start + overlap / 2 for start, _ in across[1:]]
    ys = [top + start + overlap / 2 for start, _ in down[1:]]
    items: list[Item] = [Line((x, top), (x, bottom), 0.2, 3, GREY) for x in xs]
    items += [Line((left, y), (right, y), 0.2, 3, GREY) for y in ys]
    for at_x, at_y in [
        *((x, top + (start + end) / 2 + shift) for x in xs for start, end in down for shift in _spread(start, end)),
        *((left + (start + end) / 2 + shift, y) for y in ys for start, end in across for shift in _spread(start, end)),
    ]:
        reach = min(overlap / 2, 4)
        items.append(Line((at_x - reach, at_y), (at_x + reach, at_y), 0.3))
        items.append(Line((at_x, at_y - reach), (at_x, at_y + reach), 0.3))
    return items


def _spread(start: float, end: float) -> tuple[float, float]:
    return -(end - start) / 4, (end - start) / 4


def _footer(width: float, height: float, margin: float, text: str) -> Placed:
    size = min(2.6, margin / 2)
    line = Text(width / 2, height - margin / 2 + size / 3, size, f"vallum · {text}", width - 2 * margin, "middle")
    return Placed([line], 0, 0)
