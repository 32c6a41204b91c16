"""The same threat at several strengths, found by reading the specs; and all of them on one axis of energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vallum.errors import UserError
from vallum.evaluation.statistics import Interval
from vallum.report.figure import COLOURS, Chart, Mark, Series
from vallum.report.study import Study
from vallum.specs import read_value, split_arguments

STRENGTHS = ("eps", "severity", "snr", "std", "amount", "width")  # preferred where several parameters vary
NOT_STRENGTHS = ("seed", "norm")
NAMELESS = "severity"  # what a number without a name is, as in fog:3
LABELLED = 16  # marks of a chart, up to which their names fit beside them
NAMES = {"snr": "signal to noise in dB", "eps": "eps", "severity": "severity"}


@dataclass(frozen=True)
class Family:
    """Threats that differ in one number."""

    name: str  # what they have in common, as a spec
    parameter: str
    members: tuple[tuple[float, str, str], ...]  # the number, as it was written, and the whole spec; in order


def families(specs: Sequence[str]) -> list[Family]:
    """Threats of two or more strengths; each threat is in one family at most.

    >>> [(f.name, f.parameter, [m[1] for m in f.members]) for f in families(["pgd:eps=8/255", "pgd:eps=2/255", "fog"])]
    [('pgd', 'eps', ['2/255', '8/255'])]
    """
    groups: dict[tuple[str, str], list[tuple[float, str, str]]] = {}
    for spec in specs:
        for parameter, text, rest in numbers(spec):
            groups.setdefault((rest, parameter), []).append((read_value(text, float, parameter), text, spec))

    def rank(key: tuple[str, str]) -> tuple[int, int]:
        preferred = STRENGTHS.index(key[1]) if key[1] in STRENGTHS else len(STRENGTHS)
        return preferred, -len(groups[key])

    taken: set[str] = set()
    found = []
    for rest, parameter in sorted(groups, key=rank):
        members = [one for one in groups[rest, parameter] if one[2] not in taken]
        if len(members) > 1:
            taken |= {spec for _, _, spec in members}
            found.append(Family(rest, parameter, tuple(sorted(members))))
    order = {spec: place for place, spec in enumerate(specs)}
    return sorted(found, key=lambda family: min(order[spec] for _, _, spec in family.members))


def curves(study: Study) -> list[Chart]:
    """A chart for each family of noises and attacks: corruptions at their severities are the heat map's."""
    return [
        _chart(study, family)
        for family in families(list(study.kinds))
        if not (family.parameter == "severity" and study.kinds[family.members[0][2]] == "corruption")
    ]


def severities(study: Study) -> Chart | None:
    """The mean over corruptions at each severity, where several corruptions have the same severities."""
    found = [f for f in families(list(study.kinds)) if f.parameter == "severity"]
    places = set.intersection(*({m[0] for m in f.members} for f in found)) if found else set()
    if len(places) < 2:
        return None
    series = []
    for number, name in enumerate(study.names):
        marks = [_mark(study, name, 0.0, "clean", "clean")]
        for place in sorted(places):
            specs = [spec for family in found for at, _, spec in family.members if at == place]
            there = [study.rates[name, spec].value for spec in specs if (name, spec) in study.rates]
            if len(there) == len(specs):
                marks.append(Mark(place, sum(there) / len(there), label=f"severity {place:g}"))
        series.append(Series(name, tuple(mark for mark in marks if mark), number, number))
    title = "mean over one corruption" if len(found) == 1 else f"mean over {len(found)} corruptions"
    return Chart(title, "severity", study.metric, tuple(series))


def energies(study: Study, snr: dict[tuple[str, str], float]) -> Chart | None:
    """Noise and attack on one axis: the median signal-to-noise ratio over images; only where there are both.

    Of several models each has a colour, of one each threat.
    """
    kinds = {study.kinds[spec] for name, spec in snr if (name, spec) in study.rates}
    if not {"noise", "attack"} <= kinds:
        return None
    group = {spec: f.name for f in families(list(study.kinds)) for _, _, spec in f.members}
    series = []
    for number, name in enumerate(study.names):
        lines: dict[str, list[Mark]] = {}
        for spec, kind in study.kinds.items():
            if kind in ("noise", "attack") and (name, spec) in study.rates and (name, spec) in snr:
                at = study.rates[name, spec]
                mark = Mark(snr[name, spec], at.value, at.low, at.high, spec)
                lines.setdefault(group.get(spec, spec), []).append(mark)
        for style, (what, marks) in enumerate(lines.items()):
            ordered = tuple(sorted(marks, key=lambda mark: -mark.x))
            joined = len(ordered) > 1
            if len(study.names) > 1:
                series.append(Series(f"{name}, {what}", ordered, number, style, joined))
            else:
                series.append(Series(what, ordered, style, style + style // len(COLOURS), joined))
    note = "To the right more is done to the image. At the same energy an attack does more than noise."
    title = "noise and attack at the same energy"
    axis, few = "signal to noise in dB, median over images", sum(len(one.marks) for one in series) <= LABELLED
    return Chart(title, axis, study.metric, tuple(series), "falling", note=note, wide=True, labelled=few)


def median_snr(study: Study) -> dict[tuple[str, str], float]:
    """What each threat did to the images of each model, in dB."""
    found: dict[tuple[str, str], float] = {}
    for run, called in zip(study.runs, study.called, strict=True):
        asked = "SELECT model, threat, median(snr) FROM rows WHERE snr IS NOT NULL GROUP BY model, threat"
        found |= {(called[model], threat): value for model, threat, value in run.fetch(asked)[1]}
    return found


def _chart(study: Study, family: Family) -> Chart:
    axis = NAMES.get(family.parameter, family.parameter)
    from_clean = family.parameter in ("eps", "std", "amount", "width")  # strength 0 is the image as it was
    series = []
    for number, name in enumerate(study.names):
        marks = [_mark(study, name, 0.0, "clean", "clean")] if from_clean else []
        marks += [_mark(study, name, at, spec, f"{family.parameter}={text}") for at, text, spec in family.members]
        series.append(Series(name, tuple(mark for mark in marks if mark), number, number))
    scale: Literal["linear", "falling"] = "falling" if family.parameter == "snr" else "linear"
    return Chart(f"{family.name} by {family.parameter}", axis, study.metric, tuple(series), scale)


def _mark(study: Study, model: str, x: float, spec: str, label: str) -> Mark | None:
    at: Interval | None = study.rates.get((model, spec))
    return None if at is None else Mark(x, at.value, at.low, at.high, label)


def numbers(spec: str) -> list[tuple[str, str, str]]:
    """The parameters of a spec that are numbers: name, text, and the spec without it."""
    name, _, rest = spec.partition(":")
    try:
        pairs = split_arguments(rest, spec)
    except UserError:
        return []
    found = []
    for named, text in pairs:
        parameter = named or NAMELESS
        if parameter in NOT_STRENGTHS or "+" in text:
            continue
        try:
            read_value(text, float, parameter)
        except UserError:
            continue
        others = ",".join(f"{other}={value}" for other, value in pairs if other != named)
        found.append((parameter, text, f"{name}:{others}" if others else name))
    return found
