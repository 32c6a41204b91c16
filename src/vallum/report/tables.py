"""The tables of a study as plain rows, for the page, for papers and for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vallum.evaluation.statistics import Interval
from vallum.evaluation.summary import UNION, WORST
from vallum.report.headline import holm
from vallum.report.study import Study

MANY = 6  # corruptions, beyond which they have a table of their own, folded


@dataclass(frozen=True)
class Row:
    threat: str
    kind: str
    cells: tuple[Interval | None, ...]  # one for each model

    @property
    def worst(self) -> bool:
        return self.threat == WORST


def rates(study: Study) -> list[Row]:
    """Models against threats."""
    return [
        Row(spec, study.kinds.get(spec, "attack"), tuple(study.rates.get((name, spec)) for name in study.names))
        for spec in study.specs
    ]


def split(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the main table, and those that are folded away where there are many."""
    many = [row for row in rows if row.kind == "corruption"]
    return (rows, []) if len(many) <= MANY else ([row for row in rows if row.kind != "corruption"], many)


@dataclass(frozen=True)
class Through:
    """What is left of a defended model under one attack, through each of its surfaces."""

    model: str
    threat: str
    surfaces: tuple[tuple[str, bool, Interval], ...]  # name, whether its attacker knows of the defence, rate


def surfaces(study: Study) -> list[Through]:
    """A breakdown of each union."""
    found = []
    for model in study.models:
        for spec in study.kinds:
            mine = [one for one in study.outcomes if (one.model, one.threat) == (model.name, spec)]
            if any(one.surface == UNION for one in mine):
                shown = [(one.surface, one.surface not in model.ignorant, study.rate(one)) for one in mine]
                found.append(Through(model.name, spec, tuple(shown)))
    return found


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


def compared(study: Study) -> list[dict[str, Any]]:
    """Every pair on every threat, with p-values corrected for their number."""
    pairs = study.comparisons
    return [{**pair, "holm": p} for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True)]
