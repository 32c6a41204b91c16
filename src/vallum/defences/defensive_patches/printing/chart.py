"""A page of colours to print and photograph: what comes back shows what printer, paper and camera do to a colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vallum.defences.defensive_patches.printing import markers
from vallum.defences.defensive_patches.printing.drawing import WHITE, Box, Item, Picture, Text
from vallum.defences.defensive_patches.printing.lengths import paper
from vallum.defences.defensive_patches.printing.pages import Block, Page, Placed
from vallum.defences.defensive_patches.printing.pdf import write_pdf
from vallum.defences.defensive_patches.printing.sheet import Sheet
from vallum.errors import UserError

EVERY = 3  # in each third row and column is a white cell, which shows how the light falls off across the page
_AWAY = 0.6180339887  # neighbouring cells are this share of all colours apart: a gradient of light is no colour


@dataclass(frozen=True)
class Chart:
    """Cells of all colours with `levels` steps a channel, between four markers, on a sheet (width, height) mm.

    >>> chart = Chart(levels=5, sheet=(210, 297))
    >>> len(chart.colours) >= 5**3, chart.colours.shape == (chart.rows * chart.columns, 3)
    (True, True)
    """

    levels: int
    sheet: tuple[float, float]
    margin: float = 8.0

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 12:
            raise UserError(f"{self.levels} levels a channel", "2 to 12", "6 suit most printers")
        if self.area[0] <= 0 or self.area[1] <= 0 or self.cell < 3:
            raise UserError(
                f"{self.levels}^3 colours on a sheet of {self.sheet[0]:g} by {self.sheet[1]:g} mm",
                "a cell of 3 mm at least is needed", "take larger paper, or fewer --levels",
            )  # fmt: skip

    @property
    def marker(self) -> float:
        return 0.08 * min(self.sheet)

    @property
    def area(self) -> tuple[float, float]:
        """The room for cells, between the markers."""
        around = 2 * (self.margin + self.marker * (1 + 2 * markers.QUIET / markers.CELLS))
        return self.sheet[0] - around, self.sheet[1] - around

    @cached_property
    def _grid(self) -> tuple[int, int, float]:
        """Rows, columns, and the side of a cell: the largest with which all colours and white cells find room."""
        wide, high = self.area
        for columns in range(1, 200):
            cell = wide / columns
            rows = int(high / cell)
            white = math.ceil(rows / EVERY) * math.ceil(columns / EVERY)
            if rows * columns - white >= self.levels**3:
                return rows, columns, cell
        return 1, 1, 0.0

    @property
    def rows(self) -> int:
        return self._grid[0]

    @property
    def columns(self) -> int:
        return self._grid[1]

    @property
    def cell(self) -> float:
        return self._grid[2]

    @cached_property
    def white(self) -> np.ndarray:
        """(rows * columns,) bool: the cells that only measure the light."""
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        return (row % EVERY == 0) & (column % EVERY == 0)

    @cached_property
    def colours(self) -> np.ndarray:
        """(rows * columns, 3) uint8, row by row; where cells are left over, colours come again."""
        steps = np.rint(np.linspace(0, 255, self.levels)).astype(np.uint8)
        all_ = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        stride = round(_AWAY * len(all_))
        while math.gcd(stride, len(all_)) > 1:
            stride += 1
        colours = np.full((self.rows * self.columns, 3), 255, np.uint8)
        free = np.flatnonzero(~self.white)
        colours[free] = all_[np.arange(len(free)) * stride % len(all_)]
        return colours

    def described(self) -> Sheet:
        wide, high = self.columns * self.cell, self.rows * self.cell
        squares = tuple(markers.squares(0, 0, wide, high, self.marker))
        made = {"levels": self.levels, "sheet": list(self.sheet), "margin": self.margin}
        size = (self.rows, self.columns)
        return Sheet(squares, self.marker, wide, high, size, {markers.CHART: 0}, ("colour chart",), made=made)

    @classmethod
    def of(cls, sheet: Sheet) -> Chart:
        """The chart that a sheet.json describes."""
        try:
            wide, high = (float(side) for side in sheet.made["sheet"])
            chart = cls(int(sheet.made["levels"]), (wide, high), float(sheet.made["margin"]))
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                "this sheet is no colour chart", remedy="name the folder that `vallum patch chart` wrote"
            ) from error
        return chart

    def block(self) -> Block:
        described = self.described()
        there = np.ones((self.rows, self.columns), bool)
        pixels = self.colours.reshape(self.rows, self.columns, 3)
        wide, high = described.width, described.height
        around = self.marker * (1 + 2 * markers.QUIET / markers.CELLS)
        bounds = (-around, -around, wide + around, high + around)
        items: list[Item] = [Box(-around, -around, wide + 2 * around, high + 2 * around, WHITE)]
        items.append(Picture(0, 0, wide, high, pixels, there))
        for corner, (x, y) in enumerate(described.squares):
            items += markers.drawn(markers.CHART, corner, x, y, self.marker)
        text = f"vallum colour chart · {self.levels} levels · print without colour management, at 100 %"
        items.append(Text(wide / 2, high + around / 2, 0.2 * self.marker, text, wide, "middle"))
        return Block("colour chart", bounds, items)

    def page(self) -> Page:
        block = self.block()
        x, y = ((side - own) / 2 - low for side, own, low in zip(self.sheet, block.size, block.bounds[:2], strict=True))
        return Page(*self.sheet, [Placed(block.drawing, x, y)])


def print_chart(out: str | Path, *, levels: int = 6, page: str = "a4") -> tuple[Path, Chart]:
    """Write chart.pdf, and sheet.json, by which `fit-printer` finds the colours in a photo."""
    chart, out = Chart(levels, paper(page)), Path(out).expanduser()
    pdf = write_pdf(out / "chart.pdf", [chart.page()], "Colour chart")
    chart.described().save(out)
    return pdf, chart
