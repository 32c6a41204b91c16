"""What is left through each surface by which a defence is attacked."""

from __future__ import annotations

from dataclasses import dataclass

from vallum.evaluation.statistics import Interval
from vallum.evaluation.summary import UNION
from vallum.report.study import Study

ALL, KNOWS, IGNORES = "all of them", "knows of the defence", "does not know"
BESIDE = "knows more than any can: beside the worst case, no part of it"


@dataclass(frozen=True)
class Through:
    """What is left of a defended model under one attack, through each of its surfaces."""

    model: str
    threat: str
    surfaces: tuple[tuple[str, str, Interval], ...]  # name, who attacks there, rate


def surfaces(study: Study) -> list[Through]:
    """A breakdown of each union."""
    found = []
    for model in study.models:
        who = {UNION: ALL, **dict.fromkeys(model.ignorant, IGNORES), **dict.fromkeys(model.diagnostic, BESIDE)}
        for spec in study.kinds:
            mine = [one for one in study.outcomes if (one.model, one.threat) == (model.name, spec)]
            if any(one.surface == UNION for one in mine):
                shown = [(one.surface, who.get(one.surface, KNOWS), study.rate(one)) for one in mine]
                found.append(Through(model.name, spec, tuple(shown)))
    return found
