"""What a study found, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vallum.evaluation.sections import Rates
from vallum.evaluation.statistics import Interval
from vallum.evaluation.summary import WORST, Outcome, worst
from vallum.report.study import Study
from vallum.report.surfaces import IGNORES, KNOWS, surfaces


@dataclass(frozen=True)
class Headline:
    """Of one model: the numbers that a reader takes away."""

    model: str
    clean: Interval | None
    worst: Interval | None  # None if it was not attacked
    attacks: int
    ignorant: Interval | None  # under attackers who do not know of the defence


def headlines(study: Study) -> list[Headline]:
    found = []
    for model in study.models:
        unaware = [
            one
            for one in study.outcomes
            if one.model == model.name
            and (one.threat == "clean" or (one.surface in model.ignorant and study.kinds.get(one.threat) == "attack"))
        ]
        clean = study.rates.get((model.name, "clean"))
        ignorant = study.rate(_worst(unaware)) if any(one.threat != "clean" for one in unaware) else None
        found.append(
            Headline(
                model.name,
                clean,
                study.rates.get((model.name, WORST)),
                len(study.attacks_of(model.name)),
                ignorant,
            )
        )
    return found


def sentences(study: Study) -> list[str]:
    """What others wrote into the runs first; one or two for each model, and one for each pair where it matters."""
    said = [sentence for section in study.sections if isinstance(section, Rates) for sentence in section.says]
    for one in headlines(study):
        if one.clean is None:
            continue
        name, clean = one.model, rate(one.clean)
        if one.worst is None:
            said.append(f"{name}: {clean} clean; it was not attacked, so nothing is known of its worst case.")
            continue
        what = "an attack" if one.attacks == 1 else f"the worst of {one.attacks} attacks"
        said.append(f"{name}: {clean} clean; {rate(one.worst)} are left under {what}.")
        if one.ignorant is not None:
            said[-1] += (
                f" An attacker who does not know of the defence leaves {rate(one.ignorant)}: "
                "that is not a measure of its robustness."
            )
    return said + masked(study) + [compared(pair) for pair in deciding(study)]


def cautions(study: Study) -> list[str]:
    """What forbids to read the table as a comparison of models, or as finished."""
    found = []
    if study.uneven:
        found.append("These models did not meet the same attacks: their worst cases are not of the same thing.")
    if unfinished := sum(run.unfinished for run in study.runs):
        found.append(f"{unfinished} cells are not finished: the numbers are of what there is.")
    return found


def masked(study: Study) -> list[str]:
    """For each defence that an attacker who ignores it hurts clearly more than one who knows it: his attack fails."""
    found = []
    for name in study.names:
        gaps = []
        for one in surfaces(study):
            knowing = [at for _, who, at in one.surfaces if who == KNOWS]
            unaware = [at for _, who, at in one.surfaces if who == IGNORES]
            if one.model == name and knowing and unaware:
                best, other = (min(those, key=lambda at: at.value) for those in (knowing, unaware))
                if best.low > other.high:  # and not by chance
                    gaps.append((best.value - other.value, one.threat, rate(best), rate(other)))
        if gaps:
            _, threat, best_left, other_left = max(gaps)
            found.append(
                f"{name}: under {threat} the attacker who knows of the defence leaves {best_left}, the one who ignores "
                f"it {other_left}. An attack that knows more and finds less does not work (its gradients may be "
                "masked): the true worst case may be lower than any number here."
            )
    return found


def deciding(study: Study) -> list[dict[str, Any]]:
    """The comparisons under the worst attack, or clean where nothing was attacked."""
    threats = {pair["threat"] for pair in study.comparisons}
    decisive = WORST if WORST in threats else "clean"
    pairs = [pair for pair in study.comparisons if pair["threat"] == decisive]
    return pairs if len(pairs) <= 3 else []


def compared(pair: dict[str, Any]) -> str:
    """A comparison as a sentence; what decides is its p as corrected for all that were made."""
    more, less = (pair["second"], pair["first"]) if pair["gain"] >= 0 else (pair["first"], pair["second"])
    ends = sorted(
        (pair["gain_low"], pair["gain_high"]) if pair["gain"] >= 0 else (-pair["gain_high"], -pair["gain_low"])
    )
    under = (
        "clean" if pair["threat"] == "clean" else f"under {'the ' if pair['threat'] == WORST else ''}{pair['threat']}"
    )
    by = f"{100 * abs(pair['gain']):.1f} points [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
    how = f"{_p(pair['holm'])}, {pair['test']}{_correction(pair)}"
    if pair["gain"] == 0:
        return f"{pair['first']} and {pair['second']} keep equally much {under}: {by} apart."
    if pair["holm"] > 0.05:
        return f"{more} keeps {by} more than {less} {under}, which may be chance ({how})."
    return f"{more} keeps {by} more than {less} {under} ({how})."


def rate(at: Interval) -> str:
    return f"{100 * at.value:.1f} % [{100 * at.low:.1f}, {100 * at.high:.1f}]"


def _correction(pair: dict[str, Any]) -> str:
    return f", corrected for {pair['of']} comparisons" if pair["of"] > 1 else ""


def _p(value: float) -> str:
    return "p < 0.0001" if value < 1e-4 else f"p = {value:.2g}"


def _worst(outcomes: list[Outcome]) -> Outcome:
    return worst(outcomes, WORST, "ignorant")
