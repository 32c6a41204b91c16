"""A chart as SVG: series over a number."""

from __future__ import annotations

from itertools import pairwise

from vallum.errors import printable
from vallum.report.figure import Chart, Series, said
from vallum.report.scale import Scale
from vallum.report.svg_parts import LETTER, colour, dash, element, marker, safe, short, text

WIDTH, WIDE, HEIGHT = 360, 880, 264  # a phone's width, so that text stays readable there; a page's
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 42
SPAN = f"{TOP}V{HEIGHT - BOTTOM}"  # of an upright line through it


def chart(figure: Chart, legend: bool) -> str:
    """The axes, the series, and with `legend` their names beneath."""
    marks = [mark for series in figure.series for mark in series.marks]
    across = _across(figure)
    heights = [v for m in marks for v in (m.y, m.low, m.high) if v is not None]
    up = Scale.over([0.0, 1.0] if figure.percent else heights, "linear", HEIGHT - BOTTOM, TOP)
    parts = [*_axes(figure, across, up)]
    parts += [_series(series, across, up, figure.percent) for series in figure.series]
    if figure.labelled:
        parts += _labels(figure, across, up)
    extra = 0.0
    if legend:
        parts.append(text(LEFT, -8, figure.title, "start", "font-weight:600"))
        for place, series in enumerate(figure.series):
            y = HEIGHT + 14 + 18 * place
            parts.append(marker(LEFT + 6, y - 4, series, 4.5) + text(LEFT + 18, y, series.name, "start"))
        extra = 18 * len(figure.series) + 8
    box = f"0 {-24 if legend else 0} {width_of(figure)} {HEIGHT + extra + (24 if legend else 0):g}"
    return element(figure.title, box, parts, "chart", width_of(figure))


def width_of(figure: Chart) -> int:
    """In pixels: text has the same size in all charts."""
    return WIDE if figure.wide else WIDTH


def _axes(chart: Chart, across: Scale, up: Scale) -> list[str]:
    parts, right = [], width_of(chart) - RIGHT
    for value in up.ticks():
        y = up(value)
        parts.append(f'<path class="g" d="M{LEFT} {y:.1f}H{right}"/>')
        label = f"{100 * value:.0f}" if chart.percent else f"{value:g}"
        parts.append(text(LEFT - 6, y + 4, label, "end", "", "s"))
    below = HEIGHT - BOTTOM + 16
    parts += [text(across(value), below, short(value), "middle", "", "s") for value in across.ticks()]
    parts.append(text((LEFT + right) / 2, HEIGHT - 6, chart.x_label, "middle", "", "s"))
    unit = f"{chart.y_label}, %" if chart.percent else chart.y_label
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 11 {middle:.0f})" class="s" text-anchor="middle"'
    return [*parts, f'<text x="11" y="{middle:.0f}" {turned}>{safe(unit)}</text>']


def _series(series: Series, across: Scale, up: Scale, percent: bool) -> str:
    at = [(across(mark.x), up(mark.y), mark) for mark in series.marks]
    ink = colour(series)
    parts = []
    if series.joined and len(at) > 1:
        if all(m.low is not None and m.high is not None for _, _, m in at) and len(at) > 7:
            band = [f"{x:.1f} {up(m.high or 0):.1f}" for x, _, m in at]  # many whiskers would hide the line
            band += [f"{x:.1f} {up(m.low or 0):.1f}" for x, _, m in reversed(at)]
            parts.append(f'<path class="b" fill="{ink}" d="M{"L".join(band)}Z"/>')
        route = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in at)
        parts.append(f'<path class="l" stroke="{ink}"{dash(series)} d="M{route}"/>')
    for x, y, mark in at:
        if mark.low is not None and mark.high is not None and (len(at) <= 7 or not series.joined):
            parts.append(f'<path class="e" stroke="{ink}" d="M{x:.1f} {up(mark.low):.1f}V{up(mark.high):.1f}"/>')
        named = safe(": ".join(filter(None, (series.name, mark.label or short(mark.x), said(mark, percent)))))
        size = 4.5 if len(at) <= 12 or not series.joined else 2.5
        parts.append(f"<g><title>{named}</title>{marker(x, y, series, size)}</g>")
    return "".join(parts)


SHIFTS = (4, -8, 16, -20, 28, -32, -44, 40, -56, -68)  # of a name from its point, the nearest first
NAME = 100  # two names over one another cannot be read; one over a line can
Box = tuple[float, float, float, float]  # left, top, right, bottom


def _labels(figure: Chart, across: Scale, up: Scale) -> list[str]:
    """A name beside each point, where no other name, point or line is yet; far from it, with a line to it."""
    taken = [(1, box) for series in figure.series for box in _covered(series, across, up)]
    parts = []
    for series in figure.series:
        for mark in series.marks:
            x, y, wide = across(mark.x), up(mark.y), LETTER * len(printable(mark.label))
            places = [(x + 8 if right else x - 8 - wide, y + shift) for shift in SHIFTS for right in (1, 0)]
            fitting = [
                (left, base)
                for left, base in places
                if left >= LEFT and left + wide <= width_of(figure) and 11 <= base < HEIGHT - BOTTOM
            ]

            def overlaps(place: tuple[float, float], wide: float = wide) -> int:
                left, base = place
                right, top, bottom = left + wide, base - 11, base + 2
                return sum(
                    weight
                    for weight, (x0, y0, x1, y1) in taken
                    if left < x1 and x0 < right and top < y1 and y0 < bottom
                )

            left, base = min(fitting or places, key=overlaps)
            taken.append((NAME, (left, base - 11, left + wide, base + 2)))
            if abs(base - y) > 12:
                route = f"M{x:.1f} {y:.1f}L{left - 2 if left > x else left + wide + 2:.1f} {base - 4:.1f}"
                parts.append(f'<path class="e" stroke="{colour(series)}" opacity=".5" d="{route}"/>')
            parts.append(text(left, base, mark.label, "start"))
    return parts


def _covered(series: Series, across: Scale, up: Scale) -> list[Box]:
    """Where a series' points, whiskers and lines are."""
    at = [(across(mark.x), up(mark.y)) for mark in series.marks]
    found = [(x - 5, y - 5, x + 5, y + 5) for x, y in at]
    for (x, _), mark in zip(at, series.marks, strict=True):
        if mark.low is not None and mark.high is not None:
            found.append((x - 1, up(mark.high), x + 1, up(mark.low)))
    for (x0, y0), (x1, y1) in pairwise(at) if series.joined else ():
        for share in (step / 20 for step in range(1, 20)):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            found.append((x - 1, y - 1, x + 1, y + 1))
    return found


def place_of(chart: Chart, x: float) -> float:
    """Where a number of a chart's axis is drawn."""
    return _across(chart)(x)


def _across(chart: Chart) -> Scale:
    places = [mark.x for series in chart.series for mark in series.marks]
    return Scale.over(places, chart.x_scale, LEFT, width_of(chart) - RIGHT)
