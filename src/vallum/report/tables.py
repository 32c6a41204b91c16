"""The tables of a study as plain rows, for the page, for papers and for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vallum.evaluation.statistics import Interval
from vallum.evaluation.summary import UNION, WORST
from vallum.report.study import Study

OWN = "worst of its own attacks"  # where the models of a table did not meet the same
MANY = 6  # corruptions, beyond which they have a table of their own, folded


@dataclass(frozen=True)
class Row:
    threat: str
    kind: str
    cells: tuple[Interval | None, ...]  # one for each model
    name: str  # what tables call it

    @property
    def worst(self) -> bool:
        return self.threat == WORST


def rates(study: Study) -> list[Row]:
    """Models against threats."""
    return [
        Row(
            spec,
            study.kinds.get(spec, "attack"),
            tuple(study.rates.get((name, spec)) for name in study.names),
            OWN if spec == WORST and study.uneven else spec,
        )
        for spec in study.specs
    ]


def split(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the main table, and those that are folded away where there are many."""
    many = [row for row in rows if row.kind == "corruption"]
    return (rows, []) if len(many) <= MANY else ([row for row in rows if row.kind != "corruption"], many)


def costs(study: Study) -> list[dict[str, Any]]:
    """Passes and time of each model, threat and surface."""
    return [
        {
            "model": one.model,
            "threat": one.threat,
            "surface": one.surface,
            "forwards": one.forwards / len(one.keys) if len(one.keys) else 0.0,
            "backwards": one.backwards / len(one.keys) if len(one.keys) else 0.0,
            "seconds": one.seconds,
            "milliseconds": 1000 * one.seconds / len(one.keys) if len(one.keys) else 0.0,
        }
        for one in study.outcomes
        if one.threat != WORST and one.surface != UNION
    ]


def at_test_time(study: Study) -> list[dict[str, Any]]:
    """What a prediction of each defence takes, in passes of its bare model and in the time of one."""
    return [
        {"model": called.get(name, name), **cost}
        for run, called in zip(study.runs, study.called, strict=True)
        for name, cost in run.environment.get("costs", {}).items()
    ]


def draws(study: Study) -> list[dict[str, Any]]:
    """Of models that draw at random the mean over draws, what most of them say, and the worst, under each threat."""
    return [
        {"model": one.model, "threat": one.threat, "kinds": dict(one.metrics())}
        for one in study.shown
        if one.worst is not None
    ]


def gained(pair: dict[str, Any]) -> str:
    """How much more the second of two models keeps, in points."""
    return f"{100 * pair['gain']:+.1f} [{100 * pair['gain_low']:+.1f}, {100 * pair['gain_high']:+.1f}]"
