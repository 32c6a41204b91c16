"""The report's figures in a notebook, drawn by matplotlib: `pip install "vallum[plots]"`.

Each function takes a run, or several to compare, and returns a matplotlib figure. What they draw is computed where the
report computes it; only the drawing is another.

>>> from vallum import plots
>>> plots.rates("runs/first").savefig("rates.pdf")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vallum.errors import UserError
from vallum.evaluation.run import Run
from vallum.evaluation.sections import Section, Universal
from vallum.report import curves as _curves
from vallum.report import figures as _figures
from vallum.report import heatmap as _heatmap
from vallum.report import kinds as _kinds
from vallum.report.figure import COLOURS, Chart, Dots, Figure, Grid, Series, written
from vallum.report.study import Study, studies

__all__ = ["rates", "curves", "energy", "corruptions", "gains", "gallery", "section", "all_figures"]

Runs = Run | str | os.PathLike[str] | Sequence[Run | str | os.PathLike[str]]
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")


def rates(runs: Runs) -> Any:
    """What is left of each model under each threat, with intervals."""
    return _drawn([_figures.rates(_study(runs))])


def curves(runs: Runs) -> Any:
    """The same threat at several strengths, a panel for each."""
    study = _study(runs)
    found = [*_curves.curves(study), *filter(None, [_curves.severities(study)])]
    return _drawn(found, 'no threat was run at several strengths: add "pgd:eps=2/255" to "pgd:eps=4/255"')


def energy(runs: Runs) -> Any:
    """Noise and attack on one axis of signal to noise."""
    study = _study(runs)
    found = _curves.energies(study, _curves.median_snr(study))
    return _drawn([found] if found else [], "noise and an attack are needed in one run")


def corruptions(runs: Runs) -> Any:
    """Corruptions by severity, a panel for each model."""
    return _drawn(list(_heatmap.heatmaps(_study(runs))), "two corruptions or more are needed")


def gains(runs: Runs) -> Any:
    """How much more the second of two models keeps, with intervals."""
    return _drawn(list(_figures.gains(_study(runs))), "two models on the same images are needed")


def section(one: Section) -> Any:
    """A section of another kind: `vallum.evaluation.sections.read(folder)` has those of a run."""
    if isinstance(one, Universal):
        return _universal(one)
    drawn = _kinds.figure(one)
    return _drawn([drawn] if drawn else [], f"a section of the kind {one.kind} has words or a table and no figure")


def gallery(runs: Runs, threat: str | None = None, model: str | None = None, count: int = 6) -> Any:
    """Original, what the threat made of it, and the stretched difference, a row for each image."""
    study = _study(runs)
    model = model or study.names[0]
    threat = threat or next((spec for spec, kind in reversed(study.kinds.items()) if kind != "clean"), "clean")
    kept = {(p.model, p.threat, p.key): p for run in study.runs for p in run.pictures}
    keys = [key for (m, spec, key), p in kept.items() if (m, spec) == (model, threat) and (model, "clean", key) in kept]
    if not keys:
        known = ", ".join(sorted({f"{m} under {spec}" for m, spec, _ in kept})) or "the run kept none"
        raise UserError(f"there are no pictures of {model} under {threat}", known)
    plt = _pyplot()
    figure, axes = plt.subplots(min(count, len(keys)), 3, squeeze=False, figsize=(6, 2.1 * min(count, len(keys))))
    for row, key in zip(axes, sorted(keys), strict=False):
        original, change = kept[model, "clean", key].original, kept[model, threat, key].difference
        assert original is not None
        largest = float(np.abs(change).max()) or 1.0
        for axis, pixels, name in zip(
            row,
            (original, original + change, 0.5 + change / (2 * largest)),
            ("original", threat, f"difference x{0.5 / largest:.3g}"),
            strict=True,
        ):
            axis.imshow(np.clip(pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2), 0, 1))
            axis.set_title(name, fontsize=8)
            axis.set_axis_off()
    return figure


def all_figures(runs: Runs) -> dict[str, Any]:
    """Every figure of the report, by the name that its SVG file has."""
    return {name: _drawn([figure]) for name, figure in _figures.figures(_study(runs)).items()}


def _study(runs: Runs) -> Study:
    given = [runs] if isinstance(runs, Run | str | os.PathLike) else list(runs)
    found = studies([run if isinstance(run, Run) else Run(run) for run in given])
    if len(found) != 1:
        raise UserError(
            f"these runs are of {len(found)} sets of images", "a figure compares on the same ones", "draw each alone"
        )
    return found[0]


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UserError("matplotlib is not installed", remedy='pip install "vallum[plots]"') from None
    return pyplot


def _drawn(figures: Sequence[Figure], missing: str = "") -> Any:
    if not figures:
        raise UserError("there is nothing to draw", missing)
    plt = _pyplot()
    sizes = [_size(one) for one in figures]
    width, height = sum(size[0] for size in sizes), max(size[1] for size in sizes)
    figure, axes = plt.subplots(1, len(figures), figsize=(width, height), squeeze=False, layout="constrained")
    for axis, one in zip(axes[0], figures, strict=True):
        axis.set_title(one.title, fontsize=10)
        if isinstance(one, Chart):
            _chart(axis, one)
        elif isinstance(one, Grid):
            _grid(axis, one)
        else:
            _dots(axis, one)
    return figure


def _size(one: Figure) -> tuple[float, float]:
    if isinstance(one, Grid):
        return 2.2 + 0.7 * len(one.columns), 1.2 + 0.3 * len(one.rows)
    if isinstance(one, Dots):
        return 6.0, 1.2 + (0.2 + 0.15 * len(one.series)) * len(one.rows)
    return 9.0 if one.wide else 4.6, 3.6


def _look(series: Series) -> dict[str, Any]:
    return {"color": COLOURS[series.colour % len(COLOURS)], "marker": MARKERS[series.style % len(MARKERS)]}


def _chart(axis: Any, chart: Chart) -> None:
    times = 100 if chart.percent else 1
    for series in chart.series:
        x = [mark.x for mark in series.marks]
        y = [times * mark.y for mark in series.marks]
        dash = DASHES[series.style % len(DASHES)] if series.joined else ""
        axis.plot(x, y, dash, label=series.name, markersize=4, **_look(series))
        for mark in series.marks:
            if mark.low is not None and mark.high is not None:
                axis.vlines(mark.x, times * mark.low, times * mark.high, colors=_look(series)["color"], linewidth=1)
            if chart.labelled:
                axis.annotate(mark.label, (mark.x, times * mark.y), (5, 4), textcoords="offset points", fontsize=8)
    if chart.x_scale == "log":
        axis.set_xscale("log")
    if chart.x_scale == "falling":
        axis.invert_xaxis()
    if chart.percent:
        axis.set_ylim(0, 100)
    axis.set(xlabel=chart.x_label, ylabel=f"{chart.y_label}, %" if chart.percent else chart.y_label)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)


def _grid(axis: Any, grid: Grid) -> None:
    values = np.array([[np.nan if v is None else v for v in row] for row in grid.values], float)
    low, high = (0.0, 1.0) if grid.percent else (np.nanmin(values), np.nanmax(values))
    axis.imshow(values, cmap="cividis", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if (value - low) < 0.5 * (high - low) else "black"
            axis.text(column, row, written(value, grid.percent), ha="center", va="center", color=ink, fontsize=8)
    axis.set_xticks(range(len(grid.columns)), grid.columns)
    axis.set_yticks(range(len(grid.rows)), grid.rows)
    axis.set(xlabel=grid.column_label, ylabel=grid.row_label)


def _dots(axis: Any, dots: Dots) -> None:
    for number, series in enumerate(dots.series):
        shift = 0.22 * (number - (len(dots.series) - 1) / 2)
        for place, mark in enumerate(series.marks):
            named = {"label": series.name} if place == 0 else {}
            ends = [[100 * (mark.y - (mark.low or mark.y))], [100 * ((mark.high or mark.y) - mark.y)]]
            axis.errorbar(100 * mark.y, mark.x + shift, xerr=ends, markersize=4, **_look(series), **named)
    axis.set_yticks(range(len(dots.rows)), dots.rows, fontsize=8)
    axis.set_ylim(len(dots.rows) - 0.5, -0.5)
    axis.set_xlim(100 * dots.ends[0], 100 * dots.ends[1])
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.grid(alpha=0.3, axis="x")
    if len(dots.series) > 1:
        axis.legend(fontsize=8)


def _universal(one: Universal) -> Any:
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.6), layout="constrained")
    largest = float(np.abs(one.perturbation).max()) or 1.0
    picture = np.moveaxis(0.5 + one.perturbation / (2 * largest), 0, 2)
    left.imshow(picture if picture.shape[2] == 3 else picture.repeat(3, 2))
    left.set_title(f"{one.title}, x{0.5 / largest:.3g}", fontsize=10)
    right.imshow(_kinds.spectrum(one.perturbation), cmap="cividis", vmin=0, vmax=1)
    right.set_title(f"its spectrum; {100 * one.fooled:.1f} % fooled", fontsize=10)
    for axis in (left, right):
        axis.set_axis_off()
    return figure
