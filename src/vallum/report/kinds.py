"""The sections that others wrote into a run, as figures and as what the page says about them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from vallum.errors import printable
from vallum.evaluation.sections import Certified, Frontier, Matrix, Point, Rates, Section, Tradeoff, Universal
from vallum.evaluation.statistics import Interval, rate
from vallum.report.figure import Chart, Figure, Grid, Mark, Series, lines, narrow, said, written
from vallum.report.scale import CIVIDIS
from vallum.report.svg import place_of
from vallum.report.svg_chart import SPAN, width_of


def figure(section: Section) -> Figure | None:
    """What is drawn of a section; None where words and pictures say it."""
    if isinstance(section, Tradeoff):
        chart = lines(section.lines, section.settings)
        return Chart(section.title, section.knob, "rate", chart, note=section.note, wide=True)
    if isinstance(section, Certified):
        label = f"radius in norm {section.norm}"
        proven = lines(section.lines, section.radii)
        return Chart(section.title, label, "proven right", proven, note=section.note, wide=True)
    if isinstance(section, Matrix):
        about = section.row_is, section.column_is, section.rows, section.columns, section.values
        return Grid(section.title, *about, section.percent, section.note)
    if isinstance(section, Frontier):
        return _frontier(section)
    return None


def frontier(points: tuple[Point, ...]) -> list[Point]:
    """The points that no other beats in both: none costs less and brings as much, or costs as much and brings more."""
    best: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.benefit)):
        if not best or point.benefit > best[-1].benefit:
            best.append(point)
    return best


def _frontier(section: Frontier) -> Chart:
    best = frontier(section.points)

    def marks(points: list[Point]) -> tuple[Mark, ...]:
        return tuple(Mark(p.cost, p.benefit, p.low, p.high, p.name) for p in points)

    beaten = [point for point in section.points if point not in best]
    costs = [point.cost for point in section.points]
    scale: Any = "log" if min(costs, default=0) > 0 and max(costs) > 5 * min(costs) else "linear"
    series = [Series("nothing is cheaper and better", marks(best), 0, 0, joined=False)]
    if beaten:
        series.append(Series("something is", marks(beaten), 1, 1, joined=False))
    about = section.cost_is, section.benefit_is
    return Chart(section.title, *about, tuple(series), scale, section.percent, section.note, wide=True, labelled=True)


def slider(section: Tradeoff, chart: Chart) -> dict[str, Any]:
    """Where the slider's line stands on the chart at each setting, and what it reads out there."""
    texts = []
    for place, setting in enumerate(section.settings):
        read = ", ".join(f"{s.name} {said(s.marks[place], chart.percent)} %" for s in chart.series)
        texts.append(printable(f"{section.knob} {setting:g}: {read}"))
    distance = [abs(setting - (section.chosen or 0)) for setting in section.settings]
    start = distance.index(min(distance)) if section.chosen is not None else len(distance) // 2
    return {
        "texts": texts,
        "places": {  # by the width of the chart
            width_of(one): [round(place_of(one, x), 1) for x in section.settings] for one in (chart, narrow(chart))
        },
        "start": start,
        "span": SPAN,
    }


def universal(section: Universal) -> dict[str, Any]:
    """Its picture stretched to the full range, its spectrum, and where it sends images."""
    picture = np.moveaxis(section.perturbation, 0, 2)  # (H, W, C)
    largest = float(np.abs(picture).max()) or 1.0
    answers = sorted(section.answers.items(), key=lambda one: -one[1])
    return {
        "picture": data_uri(127.5 + 127.5 * picture / largest),
        "times": written(0.5 / largest, False),
        "spectrum": data_uri(coloured(spectrum(section.perturbation))),
        "fooled": rate(round(section.fooled * section.images), section.images),
        "answers": answers[:8],
        "dominant": answers[0] if answers else None,
    }


def table(section: Rates) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """The rows of a table as they are written: in per cent, differences with their sign."""
    found = []
    for place, name in enumerate(section.rows):
        p = section.p[place] if section.p else (None,) * len(section.columns)
        numbers = zip(section.values[place], section.low[place], section.high[place], p, strict=True)
        found.append((name, [cell(*one, section.signed) for one in numbers]))
    return found


def cell(
    value: float | None, low: float | None, high: float | None, p: float | None, signed: bool
) -> dict[str, Any] | None:
    """What a table says of one number; None where nothing was measured."""
    if value is None:
        return None
    sign = "+" if signed else ""
    between = "" if low is None or high is None else f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    drawn = Interval(value, low, high) if low is not None and high is not None and low >= 0 and not signed else None
    return {
        "said": f"{100 * value:{sign}.1f}",
        "between": between,
        "p": "" if p is None else f"p = {p:.2g}",
        "bar": drawn,
    }


def spectrum(perturbation: np.ndarray) -> np.ndarray:
    """(C, H, W) to (H, W) in [0, 1]: the logarithm of the energy at each frequency, none in the middle."""
    energy = np.abs(np.fft.fftshift(np.fft.fft2(perturbation), axes=(1, 2))) ** 2
    decibel = 10 * np.log10(energy.mean(0) + 1e-12)
    return np.clip((decibel - decibel.max() + 60) / 60, 0, 1)  # sixty below the strongest is nothing


def coloured(shares: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] to (H, W, 3) in 0 .. 255."""
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in CIVIDIS])
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(shares, at, stops[:, channel]) for channel in range(3)], -1)


def data_uri(values: np.ndarray) -> str:
    """(H, W, channels) in 0 .. 255 as a PNG that a page can hold."""
    pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(held, "png")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
