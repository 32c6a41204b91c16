"""A chart as SVG: series over a number."""

from __future__ import annotations

from vallum.report.figure import Chart, Series, said
from vallum.report.scale import Scale
from vallum.report.svg_parts import colour, dash, element, marker, safe, short, text

WIDTH, HEIGHT = 360, 264  # a phone's width, so that text stays readable there
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
    parts += _labels([(across(m.x), up(m.y), m.label) for s in figure.series if not s.joined for m in s.marks])
    extra = 0.0
    if legend:
        parts.append(text(LEFT, -8, figure.title, "start", "font-weight:600"))
        for place, series in enumerate(figure.series):
            y = HEIGHT + 14 + 18 * place
            parts.append(marker(LEFT + 6, y - 4, series, 4.5) + text(LEFT + 18, y, series.name, "start"))
        extra = 18 * len(figure.series) + 8
    box = f"0 {-24 if legend else 0} {WIDTH} {HEIGHT + extra + (24 if legend else 0):g}"
    return element(figure.title, box, parts, "chart")


def _axes(chart: Chart, across: Scale, up: Scale) -> list[str]:
    parts = []
    for value in up.ticks():
        y = up(value)
        parts.append(f'<path class="g" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        label = f"{100 * value:.0f}" if chart.percent else f"{value:g}"
        parts.append(text(LEFT - 6, y + 4, label, "end", "", "s"))
    below = HEIGHT - BOTTOM + 16
    parts += [text(across(value), below, short(value), "middle", "", "s") for value in across.ticks()]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, chart.x_label, "middle", "", "s"))
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


def _labels(at: list[tuple[float, float, str]]) -> list[str]:
    """A name beside each point, where no other name or point is yet."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y, _ in at]
    parts = []
    for x, y, label in at:
        wide = 6.4 * len(label)
        places = [(x + 8 if right else x - 8 - wide, y + shift) for shift in (4, -8, 16, -20, 28) for right in (1, 0)]
        fitting = [
            (left, base) for left, base in places if left >= LEFT and left + wide <= WIDTH and base < HEIGHT - BOTTOM
        ]

        def overlaps(left: float, base: float, wide: float = wide) -> int:
            return sum(left < x1 and x0 < left + wide and base - 11 < y1 and y0 < base + 2 for x0, y0, x1, y1 in taken)

        left, base = min(fitting or places, key=lambda place: overlaps(*place))
        taken.append((left, base - 11, left + wide, base + 2))
        parts.append(text(left, base, label, "start"))
    return parts


def place_of(chart: Chart, x: float) -> float:
    """Where a number of a chart's axis is drawn."""
    return _across(chart)(x)


def _across(chart: Chart) -> Scale:
    places = [mark.x for series in chart.series for mark in series.marks]
    return Scale.over(places, chart.x_scale, LEFT, WIDTH - RIGHT)
