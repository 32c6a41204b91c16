"""Corruptions by severity, a grid for each model."""

from __future__ import annotations

from statistics import fmean

from vallum.report.curves import numbers
from vallum.report.figure import Grid
from vallum.report.study import Study

MEAN = "mean"


def heatmaps(study: Study) -> list[Grid]:
    """Rows are corruptions, columns severities and their mean; only where there are two corruptions or more."""
    places: dict[tuple[str, float], str] = {}
    for spec, kind in study.kinds.items():
        for parameter, text, rest in numbers(spec) if kind == "corruption" else ():
            if parameter == "severity":
                places[rest, float(text)] = spec
    names = tuple(dict.fromkeys(name for name, _ in places))
    severities = sorted({severity for _, severity in places})
    if len(names) < 2:
        return []
    return [_grid(study, model, places, names, severities) for model in study.names]


def _grid(
    study: Study, model: str, places: dict[tuple[str, float], str], names: tuple[str, ...], severities: list[float]
) -> Grid:
    at = [[study.rates.get((model, places.get((name, severity), ""))) for severity in severities] for name in names]
    values: list[list[float | None]] = [[None if rate is None else rate.value for rate in row] for row in at]
    ranges = [[None if rate is None else (rate.low, rate.high) for rate in row] for row in at]
    columns = [f"{severity:g}" for severity in severities]
    if len(severities) > 1:
        columns.append(MEAN)
        values = [[*row, _mean(row)] for row in values]
    rows = (*names, MEAN)
    values.append([_mean([row[place] for row in values]) for place in range(len(columns))])
    without = [None] * len(columns)  # of a mean over corruptions no interval is known
    shown = tuple(tuple(row) for row in values)
    known = tuple(tuple([*row, None][: len(columns)]) for row in ranges)
    return Grid(model, "corruption", "severity", rows, tuple(columns), shown, ranges=(*known, tuple(without)))


def _mean(values: list[float | None]) -> float | None:
    """Of a whole row or column: a mean over what happens to be there would be of something else."""
    there = [value for value in values if value is not None]
    return fmean(there) if there and len(there) == len(values) else None
