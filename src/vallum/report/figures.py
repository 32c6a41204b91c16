"""All figures of a study, by name: for files, for notebooks, for the page."""

from __future__ import annotations

import re
from typing import Any

from vallum.report import tables
from vallum.report.curves import curves, energies, median_snr, severities
from vallum.report.figure import Dots, Figure, Mark, Series
from vallum.report.heatmap import heatmaps
from vallum.report.kinds import figure
from vallum.report.study import Study


def figures(study: Study) -> dict[str, Figure]:
    """Every figure of a study, by the name of its file."""
    energy, mean = energies(study, median_snr(study)), severities(study)
    drawn = [(section.kind, figure(section)) for section in study.sections]
    named: list[tuple[str, Figure]] = [
        ("rates", rates(study)),
        *((f"curve-{_slug(chart.title)}", chart) for chart in curves(study)),
        *((f"gain-{_slug(dots.title)}", dots) for dots in gains(study)),
        *([("corruptions-mean", mean)] if mean else []),
        *([("energy", energy)] if energy else []),
        *((f"corruptions-{_slug(grid.title)}", grid) for grid in heatmaps(study)),
        *((f"{kind}-{_slug(one.title)}", one) for kind, one in drawn if one is not None),
    ]
    found: dict[str, Figure] = {}
    for name, one in named:
        place = 1
        while (unique := name if place == 1 else f"{name}-{place}") in found:  # titles that differ in marks alone
            place += 1
        found[unique] = one
    return found


def rates(study: Study) -> Dots:
    """The table as a figure: a point with its interval for each model and threat."""
    rows = tables.split(tables.rates(study))[0]
    series = []
    for number, name in enumerate(study.names):
        marks = [
            Mark(place, at.value, at.low, at.high, row.name)
            for place, row in enumerate(rows)
            if (at := row.cells[number]) is not None
        ]
        series.append(Series(name, tuple(marks), number, number, joined=False))
    return Dots(caption(study), tuple(row.name for row in rows), tuple(series))


def gains(study: Study) -> list[Dots]:
    """For each pair of models how much more the second keeps: an interval that spans nothing decides nothing."""
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for pair in study.comparisons:
        pairs.setdefault((pair["first"], pair["second"]), []).append(pair)
    found = []
    for (first, second), rows in pairs.items():
        marks = [Mark(i, row["gain"], row["gain_low"], row["gain_high"], row["threat"]) for i, row in enumerate(rows)]
        reach = max(0.05, *(abs(end) for mark in marks for end in (mark.low or 0.0, mark.high or 0.0)))
        title = f"{second} minus {first}, points"
        series = Series(title, tuple(marks), joined=False)
        found.append(Dots(title, tuple(row["threat"] for row in rows), (series,), (-reach, reach)))
    return found


def caption(study: Study, *, exact: bool = False) -> str:
    """What a table of rates is of; `exact`, which images these were, beside tables of others."""
    data = study.plan.data or "the data"
    data += f" (seed {study.seeds}, fingerprint {study.plan.data_fingerprint})" if exact else ""
    return f"{study.metric} in per cent on {study.measured} images of {data}, with 95 % intervals"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60] or "figure"
