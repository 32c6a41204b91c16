"""From a row per image to what people read: rates with their intervals, the worst case, and paired tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vallum.evaluation.plan import Plan, PlannedModel, PlannedThreat
from vallum.evaluation.statistics import Interval, mcnemar, mean_iou, paired_ious, paired_rates, share
from vallum.evaluation.store import Finished

UNION = "union"  # the surface that stands for all of a model's surfaces: per image the worst
WORST = "worst attack"  # the threat that stands for all attacks, and none: per image the worst


@dataclass(frozen=True)
class Outcome:
    """What one model made of one threat through one surface: arrays with an entry per image, in order of its key."""

    model: str
    threat: str
    surface: str
    keys: np.ndarray  # (N,)
    accuracy: np.ndarray  # (N,) the mean over draws where the model draws at random
    intersection: np.ndarray | None  # (N, K), segmentation only
    union: np.ndarray | None
    forwards: int
    backwards: int
    seconds: float
    majority: np.ndarray | None = None  # (N,) whether most draws were right; none where there is one, or a segmenter
    worst: np.ndarray | None = None  # (N,) the accuracy of the worst draw

    def metrics(self) -> dict[str, Interval]:
        """The headline first; for a model that draws at random also what most draws say, and the worst of them."""
        found = {"majority of draws": self.majority, "worst draw": self.worst}
        extra = {name: share(values) for name, values in found.items() if values is not None}
        if self.intersection is None or self.union is None:
            return {"accuracy": share(self.accuracy), **extra}
        return {"mIoU": mean_iou(self.intersection, self.union), "pixel accuracy": share(self.accuracy), **extra}


def worst(outcomes: Sequence[Outcome], threat: str, surface: str) -> Outcome:
    """Per image the outcome with the lowest accuracy, on the images that all of them have."""
    keys = outcomes[0].keys
    for one in outcomes[1:]:
        keys = np.intersect1d(keys, one.keys)
    kept = [np.searchsorted(one.keys, keys) for one in outcomes]
    accuracy = np.stack([one.accuracy[at] for one, at in zip(outcomes, kept, strict=True)])  # (O, N)
    lowest, column = accuracy.argmin(0), np.arange(len(keys))

    def pick(values: list[np.ndarray | None]) -> np.ndarray | None:
        there = [v[at] for v, at in zip(values, kept, strict=True) if v is not None]
        return np.stack(there)[lowest, column] if there else None

    def least(values: list[np.ndarray | None]) -> np.ndarray | None:
        there = [v[at] for v, at in zip(values, kept, strict=True) if v is not None]
        return np.stack(there).min(0) if there else None

    return Outcome(
        outcomes[0].model,
        threat,
        surface,
        keys,
        accuracy[lowest, column],
        pick([one.intersection for one in outcomes]),
        pick([one.union for one in outcomes]),
        sum(one.forwards for one in outcomes),
        sum(one.backwards for one in outcomes),
        sum(one.seconds for one in outcomes),
        least([one.majority for one in outcomes]),
        least([one.worst for one in outcomes]),
    )


def singles(plan: Plan, rows: Iterable[tuple[Any, ...]], finished: dict[str, Finished]) -> list[Outcome]:
    """Every (model, threat, surface) of the plan that has rows.

    `rows` are (model, threat, surface, key, accuracy, intersection, union, majority, worst). What a diagnosis found
    stands beside the unions, and in none of them.
    """
    groups: dict[tuple[str, str, str], list[tuple[Any, ...]]] = {}
    for model, threat, surface, *rest in rows:
        groups.setdefault((model, threat, surface), []).append(tuple(rest))
    took: dict[tuple[str, str, str], list[Finished]] = {}
    for cell in (*plan.fits(), *plan.cells()):
        if cell.id in finished:
            key = plan.models[cell.model].name, plan.threats[cell.threat].spec, cell.surface
            took.setdefault(key, []).append(finished[cell.id])

    wanted = [(m.name, t.spec, surface) for m in plan.models for t in plan.threats for surface in m.surfaces]
    return [_outcome(group, groups[group], took.get(group, [])) for group in wanted if group in groups]


def together(
    models: Sequence[PlannedModel], threats: Sequence[PlannedThreat], found_singly: Sequence[Outcome]
) -> list[Outcome]:
    """These outcomes, with the unions over surfaces and each model's worst attack."""
    of: dict[tuple[str, str], list[Outcome]] = {}
    for one in found_singly:
        of.setdefault((one.model, one.threat), []).append(one)
    found = []
    for model in models:
        single: list[Outcome] = []
        for threat in threats:
            mine = of.get((model.name, threat.spec), [])
            found += mine
            counted = [one for one in mine if one.surface not in model.diagnostic]
            if counted and len(mine) > 1:
                found.append(worst(counted, threat.spec, UNION))
            if threat.kind in ("clean", "attack"):
                single += counted
        if sum(threat.kind == "attack" for threat in threats) and len(single) > 1:
            found.append(worst(single, WORST, UNION))
    return found


def summary(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row per model, threat, surface and metric."""
    return [
        {
            "model": one.model,
            "threat": one.threat,
            "surface": one.surface,
            "metric": metric,
            **asdict(interval),
            "n": len(one.keys),
            "forwards": one.forwards,
            "backwards": one.backwards,
            "seconds": round(one.seconds, 3),
        }
        for one in found
        for metric, interval in one.metrics().items()
    ]


def comparisons(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For every pair of models the same images under the same threat: McNemar's test, or Wilcoxon's for segmenters."""
    headline = [one for one in found if _is_headline(one, found)]
    pairs = []
    for i, first in enumerate(headline):
        for second in headline[i + 1 :]:
            if first.threat != second.threat or first.model == second.model:
                continue
            keys = np.intersect1d(first.keys, second.keys)
            a = first.accuracy[np.searchsorted(first.keys, keys)]
            b = second.accuracy[np.searchsorted(second.keys, keys)]
            row = {"threat": first.threat, "first": first.model, "second": second.model, "n": len(keys)}
            if first.intersection is None:
                drawn = first.worst is not None or second.worst is not None
                test = "McNemar, exact" + (", right in half of the draws or more" if drawn else "")
                a, b = a >= 0.5, b >= 0.5
                found_pair, gain = mcnemar(a, b), paired_rates(a, b)
                row |= {"test": test, **asdict(found_pair)}
            else:
                row |= {"test": "Wilcoxon signed-rank", "p": _wilcoxon(a, b)}
                gain = paired_ious(_counts(first, keys), _counts(second, keys))
            # what the second has more than the first, with its interval
            pairs.append({**row, "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high})
    return pairs


def _is_headline(one: Outcome, found: Sequence[Outcome]) -> bool:
    """The union where there is one, the single surface otherwise."""
    return one.surface == UNION or not any(
        other.surface == UNION and (other.model, other.threat) == (one.model, one.threat) for other in found
    )


def headlines(found: Sequence[Outcome]) -> list[Outcome]:
    return [one for one in found if _is_headline(one, found)]


def ignorant(
    models: Sequence[PlannedModel], kinds: dict[str, str], found: Sequence[Outcome]
) -> list[tuple[Outcome, Outcome]]:
    """What attackers who do not know of a defence reach, each with the union over all surfaces: never without it."""
    surfaces = {model.name: model.ignorant for model in models}
    attacked = [one for one in found if one.surface == UNION and kinds.get(one.threat) == "attack"]
    unions = {(one.model, one.threat): one for one in attacked}
    return [
        (one, unions[one.model, one.threat])
        for one in found
        if one.surface in surfaces[one.model] and (one.model, one.threat) in unions
    ]


def _outcome(group: tuple[str, str, str], rows: list[tuple[Any, ...]], took: list[Finished]) -> Outcome:
    rows = sorted(rows, key=lambda row: row[0])
    keys, accuracy, *others = zip(*rows, strict=True)
    intersection, union, majority, worst_draw = (np.array(one) if one[0] is not None else None for one in others)
    return Outcome(
        *group,
        np.array(keys),
        np.array(accuracy, float),
        intersection,
        union,
        sum(one.forwards for one in took),
        sum(one.backwards for one in took),
        sum(one.seconds for one in took),
        majority,
        worst_draw,
    )


def _counts(one: Outcome, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    assert one.intersection is not None
    assert one.union is not None
    at = np.searchsorted(one.keys, keys)
    return one.intersection[at], one.union[at]


def _wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    from scipy import stats

    return float(stats.wilcoxon(a, b).pvalue) if bool((a != b).any()) else 1.0
