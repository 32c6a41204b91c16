"""Figures as data: what the page, the SVG files and matplotlib draw alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from vallum.evaluation.sections import Line

# Okabe and Ito's colours, told apart by people with any kind of colour vision; markers differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#7a5195")


@dataclass(frozen=True)
class Mark:
    """One point of a series, with the interval of its height, and what to call it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Series:
    name: str
    marks: tuple[Mark, ...]
    colour: int = 0
    style: int = 0  # of marker and dash
    joined: bool = True


@dataclass(frozen=True)
class Chart:
    """Series over a number; heights are rates in [0, 1] if `percent`."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_scale: Literal["linear", "log", "falling"] = "linear"  # falling: from large to small
    percent: bool = True
    note: str = ""
    wide: bool = False  # over the whole page
    labelled: bool = False  # each mark with its name beside it


@dataclass(frozen=True)
class Grid:
    """A number for each pair of a row and a column, drawn as a heat map; None where there is none."""

    title: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    percent: bool = True
    note: str = ""
    ranges: tuple[tuple[tuple[float, float] | None, ...], ...] = ()  # the intervals, shown under the pointer

    def said(self, row: int, column: int) -> str:
        """A number with its interval, where it has one."""
        value = self.values[row][column]
        assert value is not None
        ends = self.ranges[row][column] if self.ranges else None
        return said(Mark(column, value, *(ends or (None, None))), self.percent)


@dataclass(frozen=True)
class Dots:
    """Rates or their differences with intervals, a row for each name; `x` of a mark is the place of its row."""

    title: str
    rows: tuple[str, ...]
    series: tuple[Series, ...]
    ends: tuple[float, float] = (0.0, 1.0)


def narrow(chart: Chart) -> Chart:
    """The same for a phone, where long names do not fit beside their marks."""
    short = all(len(mark.label) <= 16 for series in chart.series for mark in series.marks)
    return replace(chart, wide=False, labelled=chart.labelled and short)


Figure = Chart | Grid | Dots


def lines(named: tuple[Line, ...], axis: tuple[float, ...]) -> tuple[Series, ...]:
    """The lines of a section as series."""
    found = []
    for place, line in enumerate(named):
        lows, highs = (ends or (None,) * len(axis) for ends in (line.low, line.high))
        marks = [Mark(*at) for at in zip(axis, line.values, lows, highs, strict=True)]
        found.append(Series(line.name, tuple(marks), place, place))
    return tuple(found)


def written(value: float, percent: bool) -> str:
    """A height in words.

    >>> written(0.123, True), written(1234.5, False), written(0.00123, False)
    ('12.3', '1234', '0.00123')
    """
    return f"{100 * value:.1f}" if percent else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def said(mark: Mark, percent: bool) -> str:
    """A mark's height with its interval."""
    height = written(mark.y, percent)
    if mark.low is None or mark.high is None:
        return height
    return f"{height} [{written(mark.low, percent)}, {written(mark.high, percent)}]"
