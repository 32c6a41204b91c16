"""Figures as SVG: text, lines and little else; colours are CSS variables, so that a page can be light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from vallum.errors import printable
from vallum.report.figure import COLOURS, Chart, Figure, Grid, Mark, Series, said, written
from vallum.report.scale import Scale, shade

WIDTH, HEIGHT = 420, 300  # of a chart: a phone's width, so that text stays readable there
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 42
ROW, CELL = 24, 54  # of a grid
DASHES = ("", "5 3", "2 2", "8 3 2 3")

# A file on its own has no page to give it colours.
ALONE = (
    "<style>svg{--ink:#1b1f24;--soft:#5b6470;--line:#d9dee4;--paper:#fff;font:12px system-ui,sans-serif;"
    "background:var(--paper)}@media(prefers-color-scheme:dark){svg{--ink:#e8ebee;--soft:#a2abb5;--line:#343b43;"
    "--paper:#14181c}}%s</style>"
)
STYLE = (
    "text{fill:var(--ink)}.s{fill:var(--soft)}.g{stroke:var(--line)}.h{stroke:var(--paper);stroke-width:1.5}"
    ".l{fill:none;stroke-width:2}.e{stroke-width:1.5}.b{opacity:.15}"
)


def alone(figure: Figure) -> str:
    """A figure as a file of its own, with its title and what its colours mean."""
    parts = draw(figure, legend=True)
    colours = "".join(f"svg{{--c{i}:{colour}}}" for i, colour in enumerate(COLOURS))
    return parts.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "</title>", "</title>" + ALONE % (STYLE + colours), 1
    )


def draw(figure: Figure, *, legend: bool = False) -> str:
    """A figure as an <svg> element; with `legend` its title and the names of its series are part of it."""
    return _chart(figure, legend) if isinstance(figure, Chart) else _grid(figure, legend)


def place_of(chart: Chart, x: float) -> float:
    """Where a number of a chart's axis is drawn."""
    return _across(chart)(x)


def swatch(series: Series) -> str:
    """A series' line and marker, for a legend."""
    dash = DASHES[series.style % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    stroke = f'stroke="var(--c{series.colour % len(COLOURS)})"'
    line = f'<path class="l" {stroke}{dashed} d="M0 7H26"/>' if series.joined else ""
    size = 'viewBox="0 0 26 14" width="26" height="14" aria-hidden="true"'
    return f'<svg class="swatch" {size}>{line}{_marker(13, 7, series, 4.5)}</svg>'


def _across(chart: Chart) -> Scale:
    places = [mark.x for series in chart.series for mark in series.marks]
    return Scale.over(places, chart.x_scale, LEFT, WIDTH - RIGHT)


def _chart(chart: Chart, legend: bool) -> str:
    marks = [mark for series in chart.series for mark in series.marks]
    across = _across(chart)
    heights = [v for m in marks for v in (m.y, m.low, m.high) if v is not None]
    up = Scale.over([0.0, 1.0] if chart.percent else heights, "linear", HEIGHT - BOTTOM, TOP)
    parts = [*_axes(chart, across, up)]
    parts += [_series(series, across, up, chart.percent) for series in chart.series]
    extra = 0.0
    if legend:
        parts.append(_text(LEFT, -8, chart.title, "start", "font-weight:600"))
        for place, series in enumerate(chart.series):
            y = HEIGHT + 14 + 18 * place
            parts.append(_marker(LEFT + 6, y - 4, series, 4.5) + _text(LEFT + 18, y, series.name, "start"))
        extra = 18 * len(chart.series) + 8
    box = f"0 {-24 if legend else 0} {WIDTH} {HEIGHT + extra + (24 if legend else 0):g}"
    return _svg(chart.title, box, parts, "chart")


def _axes(chart: Chart, across: Scale, up: Scale) -> list[str]:
    parts = []
    for value in up.ticks():
        y = up(value)
        parts.append(f'<path class="g" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        label = f"{100 * value:.0f}" if chart.percent else f"{value:g}"
        parts.append(_text(LEFT - 6, y + 4, label, "end", "", "s"))
    below = HEIGHT - BOTTOM + 16
    parts += [_text(across(value), below, _short(value), "middle", "", "s") for value in across.ticks()]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, chart.x_label, "middle", "", "s"))
    unit = f"{chart.y_label}, %" if chart.percent else chart.y_label
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 11 {middle:.0f})" class="s" text-anchor="middle"'
    return [*parts, f'<text x="11" y="{middle:.0f}" {turned}>{_safe(unit)}</text>']


def _series(series: Series, across: Scale, up: Scale, percent: bool) -> str:
    at = [(across(mark.x), up(mark.y), mark) for mark in series.marks]
    colour = f"var(--c{series.colour % len(COLOURS)})"
    parts = []
    if series.joined and len(at) > 1:
        if all(m.low is not None and m.high is not None for _, _, m in at) and len(at) > 7:
            band = [f"{x:.1f} {up(m.high or 0):.1f}" for x, _, m in at]  # many whiskers would hide the line
            band += [f"{x:.1f} {up(m.low or 0):.1f}" for x, _, m in reversed(at)]
            parts.append(f'<path class="b" fill="{colour}" d="M{"L".join(band)}Z"/>')
        dash = DASHES[series.style % len(DASHES)]
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        route = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in at)
        parts.append(f'<path class="l" stroke="{colour}"{dashed} d="M{route}"/>')
    for x, y, mark in at:
        if mark.low is not None and mark.high is not None and (len(at) <= 7 or not series.joined):
            parts.append(f'<path class="e" stroke="{colour}" d="M{x:.1f} {up(mark.low):.1f}V{up(mark.high):.1f}"/>')
        named = _safe(": ".join(filter(None, (series.name, mark.label or _short(mark.x), said(mark, percent)))))
        size = 4.5 if len(at) <= 12 or not series.joined else 2.5
        parts.append(f"<g><title>{named}</title>{_marker(x, y, series, size)}</g>")
        if not series.joined and mark.label:
            anchor, dx = ("end", -8) if x > WIDTH * 0.7 else ("start", 8)
            parts.append(_text(x + dx, y - 6, mark.label, anchor))
    return "".join(parts)


def _marker(x: float, y: float, series: Series, size: float) -> str:
    colour, r = f"var(--c{series.colour % len(COLOURS)})", size
    drawn = (
        f'<circle class="h" cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{colour}"/>',
        f'<path class="h" fill="{colour}" d="M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}z"/>',
        f'<path class="h" fill="{colour}" d="M{x:.1f} {y - 1.2 * r:.1f}l{1.2 * r:g} {2.2 * r:g}h{-2.4 * r:g}z"/>',
        f'<path class="h" fill="{colour}" d="M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:g} {1.3 * r:g}l{-1.3 * r:g} '
        f'{1.3 * r:g}l{-1.3 * r:g} {-1.3 * r:g}z"/>',
    )
    return drawn[series.style % len(drawn)]


def _grid(grid: Grid, legend: bool) -> str:
    values = [v for row in grid.values for v in row if v is not None]
    low, high = (0.0, 1.0) if grid.percent else (min(values, default=0.0), max(values, default=1.0))
    left = 14 + 6.6 * max((len(printable(name)) for name in grid.rows), default=0)
    cell = max(CELL, 10 + 6.6 * max((len(printable(name)) for name in grid.columns), default=0))
    top = 40
    parts = [_text(left + cell * len(grid.columns) / 2, 12, grid.column_label, "middle", "", "s")]
    parts += [_text(0, top - 8, grid.row_label, "start", "", "s")]
    for place, name in enumerate(grid.columns):
        parts.append(_text(left + cell * (place + 0.5), top - 8, name, "middle"))
    for place, (name, row) in enumerate(zip(grid.rows, grid.values, strict=True)):
        y = top + ROW * place
        parts.append(_text(left - 8, y + 16, name, "end"))
        for column, value in enumerate(row):
            if value is None:
                continue
            fill, ink = shade((value - low) / (high - low) if high > low else 0.5)
            box = f'x="{left + cell * column + 1:.1f}" y="{y + 1}" width="{cell - 2:.1f}" height="{ROW - 2}" rx="3"'
            tip = _safe(f"{name}, {grid.columns[column]}: {written(value, grid.percent)}")
            number = written(value, grid.percent)
            at = f'x="{left + cell * (column + 0.5):.1f}" y="{y + 16}" text-anchor="middle" style="fill:{ink}"'
            parts.append(f'<g><title>{tip}</title><rect {box} fill="{fill}"/><text {at}>{number}</text></g>')
    width, height = left + cell * len(grid.columns) + 2, top + ROW * len(grid.rows) + 2
    if legend:
        parts.append(_text(0, -10, grid.title, "start", "font-weight:600"))
    box = f"0 {-26 if legend else 0} {width:.0f} {height + (26 if legend else 0)}"
    return _svg(grid.title, box, parts, "grid", width)


def _svg(title: str, box: str, parts: Sequence[str], kind: str, width: float | None = None) -> str:
    size = "" if width is None else f' width="{width:.0f}"'
    named = f'role="img" aria-label="{_safe(title)}"'
    return f'<svg class="{kind}" viewBox="{box}"{size} {named}><title>{_safe(title)}</title>{"".join(parts)}</svg>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "", kind: str = "") -> str:
    said = f' class="{kind}"' if kind else ""
    said += f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{said}>{_safe(text)}</text>'


def _safe(text: str) -> str:
    """Names come from outside: nothing in them is markup, nothing steers."""
    return escape(printable(text))


def _short(value: float) -> str:
    """A number on an axis; eps in units of 1/255 as people write them.

    >>> _short(8 / 255), _short(0.2), _short(0.0)
    ('8/255', '0.2', '0')
    """
    whole = round(value * 255)
    if round(value, 3) != value and math.isclose(whole / 255, value, rel_tol=1e-9):
        return f"{whole}/255"
    return f"{value:.4g}"


__all__ = ["Mark", "alone", "draw"]
