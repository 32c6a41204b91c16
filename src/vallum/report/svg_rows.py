"""Figures with a row for each name, as SVG: a heat map, and points with their intervals."""

from __future__ import annotations

from vallum.errors import printable
from vallum.report.figure import Dots, Grid, said, written
from vallum.report.scale import Scale, shade
from vallum.report.svg_parts import LETTER, colour, element, marker, safe, text

ROW, CELL = 24, 54


def grid(figure: Grid, legend: bool) -> str:
    """A shade and a number for each pair."""
    values = [v for row in figure.values for v in row if v is not None]
    low, high = (0.0, 1.0) if figure.percent else (min(values, default=0.0), max(values, default=1.0))
    left = 14 + LETTER * max((len(printable(name)) for name in figure.rows), default=0)
    cell = max(CELL, 10 + LETTER * max((len(printable(name)) for name in figure.columns), default=0))
    top = 40
    parts = [text(left + cell * len(figure.columns) / 2, 12, figure.column_label, "middle", "", "s")]
    parts += [text(0, top - 8, figure.row_label, "start", "", "s")]
    for place, name in enumerate(figure.columns):
        parts.append(text(left + cell * (place + 0.5), top - 8, name, "middle"))
    for place, (name, row) in enumerate(zip(figure.rows, figure.values, strict=True)):
        y = top + ROW * place
        parts.append(text(left - 8, y + 16, name, "end"))
        for column, value in enumerate(row):
            if value is None:
                continue
            fill, ink = shade((value - low) / (high - low) if high > low else 0.5)
            box = f'x="{left + cell * column + 1:.1f}" y="{y + 1}" width="{cell - 2:.1f}" height="{ROW - 2}" rx="3"'
            tip = safe(f"{name}, {figure.columns[column]}: {figure.said(place, column)}")
            number = written(value, figure.percent)
            at = f'x="{left + cell * (column + 0.5):.1f}" y="{y + 16}" text-anchor="middle" style="fill:{ink}"'
            parts.append(f'<g><title>{tip}</title><rect {box} fill="{fill}"/><text {at}>{number}</text></g>')
    width, height = left + cell * len(figure.columns) + 2, top + ROW * len(figure.rows) + 2
    if legend:
        parts.append(text(0, -10, figure.title, "start", "font-weight:600"))
    box = f"0 {-26 if legend else 0} {width:.0f} {height + (26 if legend else 0)}"
    return element(figure.title, box, parts, "grid", width)


def dots(figure: Dots, legend: bool) -> str:
    """For each row a point of each series, one beneath the other."""
    apart = 13
    left = 14 + LETTER * max((len(printable(name)) for name in figure.rows), default=0)
    right, top = left + 300, 24
    across = Scale.over(figure.ends, "linear", left, right)
    high = ROW + apart * (len(figure.series) - 1)
    bottom = top + high * len(figure.rows)
    parts = []
    for value in across.ticks():
        kind = "s zero" if value == 0 and figure.ends[0] < 0 else "g"
        parts.append(f'<path class="{kind}" d="M{across(value):.1f} {top - 6}V{bottom}"/>')
        parts.append(text(across(value), top - 10, f"{100 * value:.0f}", "middle", "", "s"))
    for place, name in enumerate(figure.rows):
        parts.append(text(left - 10, top + high * (place + 0.5) + 4, name, "end"))
    for number, series in enumerate(figure.series):
        for mark in series.marks:
            y = top + high * mark.x + ROW / 2 + apart * number
            tip = safe(f"{series.name}, {mark.label}: {said(mark, True)}")
            whisker = ""
            if mark.low is not None and mark.high is not None:
                ends = f"M{across(mark.low):.1f} {y:.1f}H{across(mark.high):.1f}"
                whisker = f'<path class="l" stroke="{colour(series)}" d="{ends}"/>'
            parts.append(f"<g><title>{tip}</title>{whisker}{marker(across(mark.y), y, series, 4.5)}</g>")
    below = 0.0
    if legend:
        parts.append(text(0, -8, figure.title, "start", "font-weight:600"))
        for place, series in enumerate(figure.series if len(figure.series) > 1 else ()):
            below = 18.0 * (place + 1) + 6
            parts.append(marker(left + 6, bottom + below - 4, series, 4.5))
            parts.append(text(left + 18, bottom + below, series.name, "start"))
    over = 24 if legend else 0
    box = f"0 {-over} {right + 16:.0f} {bottom + below + 8 + over:.0f}"
    return element(figure.title, box, parts, "dots", right + 16)
