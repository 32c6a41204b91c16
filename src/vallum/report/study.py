"""What a report is about: one or several runs on the same images, as one set of models, threats and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from vallum.evaluation.plan import PlannedModel, PlannedThreat
from vallum.evaluation.run import Run
from vallum.evaluation.sections import KINDS, Section, read
from vallum.evaluation.statistics import Interval, holm
from vallum.evaluation.summary import UNION, WORST, Outcome, comparisons, headlines, together
from vallum.report.perturbations import fitted


@dataclass(frozen=True)
class Study:
    """Runs on the same images. The same model and threat in two of them count once, where more images were measured."""

    runs: tuple[Run, ...]
    models: tuple[PlannedModel, ...]
    threats: tuple[PlannedThreat, ...]
    outcomes: tuple[Outcome, ...]
    called: tuple[dict[str, str], ...]  # for each run, what the report calls its models
    origins: dict[tuple[str, str, str], Run]  # of each model, threat and surface the run whose rows count

    @property
    def plan(self) -> Any:
        """Of the first run: data, classes and task are the same in all of them."""
        return self.runs[0].plan

    @property
    def metric(self) -> str:
        return "accuracy" if self.plan.task == "classify" else "mIoU"

    @cached_property
    def names(self) -> list[str]:
        return [model.name for model in self.models]

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Of each threat: clean, noise, corruption or attack."""
        return {threat.spec: threat.kind for threat in self.threats}

    @cached_property
    def shown(self) -> list[Outcome]:
        """One outcome for each model and threat: the union over its surfaces."""
        return headlines(self.outcomes)

    @cached_property
    def rates(self) -> dict[tuple[str, str], Interval]:
        """The metric of each model under each threat."""
        return {(one.model, one.threat): self.rate(one) for one in self.shown}

    @cached_property
    def specs(self) -> list[str]:
        """The threats that have outcomes, in order, the worst attack last."""
        there = {one.threat for one in self.shown}
        return [spec for spec in (*self.kinds, WORST) if spec in there]

    @cached_property
    def measured(self) -> int:
        return max((len(one.keys) for one in self.outcomes), default=0)

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """Pairs of models on the same images, under the worst attack only where both met the same attacks.

        `holm` is what a pair's p becomes where it is one of so many (`of`): that one is held against 0.05.
        """
        found = self.runs[0].comparisons if len(self.runs) == 1 else comparisons(self.shown)
        kept = [
            pair
            for pair in found
            if pair["threat"] != WORST or self.attacks_of(pair["first"]) == self.attacks_of(pair["second"])
        ]
        corrected = holm([pair["p"] for pair in kept])
        return [{**pair, "holm": p, "of": len(kept)} for pair, p in zip(kept, corrected, strict=True)]

    @cached_property
    def sections(self) -> list[Section]:
        """What others wrote into the runs, and what was fitted in them, kind by kind."""
        pairs = list(zip(self.runs, self.called, strict=True))
        found = [section for run, called in pairs for section in (*read(run.folder), *fitted(run, called))]
        return sorted(found, key=lambda section: list(KINDS).index(section.kind))

    @property
    def seeds(self) -> str:
        """Of the runs, which may have met the same images under several."""
        return ", ".join(dict.fromkeys(str(run.plan.seed) for run in self.runs))

    def origin(self, one: Outcome) -> list[Run]:
        """The runs that this outcome is made of: several, where attacks or surfaces of several came together."""

        def part(threat: str, surface: str) -> bool:
            if one.threat == WORST:
                return self.kinds[threat] in ("clean", "attack")
            return threat == one.threat and one.surface in (surface, UNION)

        made = {id(run) for (model, *at), run in self.origins.items() if model == one.model and part(*at)}
        return [run for run in self.runs if id(run) in made]

    def rate(self, one: Outcome) -> Interval:
        key = one.model, one.threat, one.surface
        if key not in self._rates:  # a bootstrap takes a while
            self._rates[key] = next(iter(one.metrics().values()))
        return self._rates[key]

    @cached_property
    def _rates(self) -> dict[tuple[str, str, str], Interval]:
        return {}

    def attacks_of(self, model: str) -> frozenset[str]:
        return frozenset(o.threat for o in self.shown if o.model == model and self.kinds.get(o.threat) == "attack")

    @property
    def uneven(self) -> bool:
        """Whether some model met attacks that another did not: their worst cases are then not of the same thing."""
        return len({self.attacks_of(name) for name in self.names}) > 1


def studies(runs: Sequence[Run]) -> list[Study]:
    """Runs on the same images come together; others stay apart, for their numbers cannot be compared."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        plan = run.plan
        groups.setdefault((plan.task, plan.classes, plan.data_fingerprint, plan.images), []).append(run)
    return [_study(group) for group in groups.values()]


def _study(runs: list[Run]) -> Study:
    if len(runs) == 1:
        plan = runs[0].plan
        same = {model.name: model.name for model in plan.models}
        made = dict.fromkeys(((one.model, one.threat, one.surface) for one in runs[0].singles), runs[0])
        return Study(tuple(runs), plan.models, plan.threats, tuple(runs[0].outcomes), (same,), made)
    models: dict[str, PlannedModel] = {}
    threats: dict[str, PlannedThreat] = {}
    found: dict[tuple[str, str, str], Outcome] = {}
    origins: dict[tuple[str, str, str], Run] = {}
    called = []
    for run in runs:
        names = {model.name: _name(model, run, models) for model in run.plan.models}
        called.append(names)
        for model in run.plan.models:
            models.setdefault(names[model.name], replace(model, name=names[model.name]))
        threats |= {threat.spec: threat for threat in run.plan.threats if threat.spec not in threats}
        for one in run.singles:
            key = names[one.model], one.threat, one.surface
            if key not in found or len(found[key].keys) < len(one.keys):
                found[key], origins[key] = replace(one, model=names[one.model]), run
    everything = together(list(models.values()), list(threats.values()), list(found.values()))
    known = tuple(models.values()), tuple(threats.values())
    return Study(tuple(runs), *known, tuple(everything), tuple(called), origins)


def _name(model: PlannedModel, run: Run, known: dict[str, PlannedModel]) -> str:
    """Its own name, unless another model has it already: then with the run's folder."""
    name = model.name
    for attempt in range(2, 100):
        if name not in known or replace(known[name], name=model.name) == model:
            break
        folder = run.folder.resolve().name
        name = f"{model.name} ({folder})" if attempt == 2 else f"{model.name} ({folder} {attempt})"
    return name
