"""The smallest radius at which a universal perturbation makes the error as large as asked, with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vallum.errors import UserError
from vallum.evaluation.outside import fitted_to, setting, wrong_on
from vallum.evaluation.statistics import LEVEL
from vallum.threats.base import Bounded
from vallum.threats.norms import norm_named
from vallum.threats.universal.base import Fitted
from vallum.threats.universal.found import Found

# Radii as shares of the length that a change of every value by 1 has: 1 in the norm inf, sqrt(C * H * W) in the norm 2.
FIRST = 8 / 255
LARGEST = 64 / 255  # a radius at which any model should be lost; where one is not, the search is to be doubted
PRECISION = 1 / 255
MORE = 5  # searches beyond, at most, so that the interval has an upper end
RESAMPLES = 2000


@dataclass(frozen=True)
class EpsStar:
    """`value` with its interval over images; infinity where the error is not reached within the radii tried."""

    error: float
    value: float
    low: float
    high: float
    eps: list[float]  # the radii that were tried, in order
    errors: list[float]  # the error at each


def eps_star(
    model: Any,
    data: Any,
    error: float = 0.5,
    *,
    threat: str | Fitted = "universal:steps=100",
    n: int | None = 500,
    precision: float | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: str = "auto",
    told: Callable[[float, float], None] | None = None,
) -> EpsStar:
    """Look for the radius by doubling and halving; each search starts from what was found at other radii, too.

    `data` are images to evaluate on, `n` of them; the perturbations are fitted on the others, and so at most half of
    them are evaluated, or on what the threat names as its `data`. A defence is attacked through each of its surfaces,
    and the one counts that leaves least on all images together: an attacker has one perturbation, while `evaluate`
    takes the worst surface for each image. In the norm 2 the radii are Euclidean lengths, and the search goes as far
    as `sqrt(channels * height * width)` times what it does in the norm inf. `precision` is how far the radii on either
    side of the crossing may lie apart: 1/255, times that factor.

    The interval is a bootstrap over the images that are evaluated, with the perturbations as they were found: it holds
    for these perturbations, and another search may find better ones. Where too few images tell whether the error is
    reached at the largest radius tried, up to five larger ones are tried; if that does not settle it, `high` is
    infinity. `told` is called with each radius and error.

        eps_star("builtin:signs_resnet", "builtin:signs?split=val", error=0.5, n=1000).value
    """
    if not 0 < error < 1:
        raise UserError(f"error={error:g}", "a share between 0 and 1")
    if precision is not None and not 0 < precision < math.inf:
        raise UserError(f"precision={precision:g}", "a length is positive", "leave it out for one that fits")
    place = setting({"the model": model}, data, threat, n, seed, batch_size, device)
    (loaded,), attack = place.models.values(), place.attack
    if not isinstance(attack, Bounded):
        raise UserError(
            f"{attack.spec} has no radius that could be looked for",
            "a threat with eps, as universal or universal_deepfool",
            "evaluate a patch at several shares instead: vallum.evaluate(..., ['universal_patch:share=0.02', ...])",
        )
    known: dict[float, dict[str, Found]] = {}

    def wrong_at(eps: float) -> np.ndarray:
        if eps == 0:
            return wrong_on(loaded, place, None)
        nearest = min(known, key=lambda other: abs(other - eps), default=None)
        begun = None if nearest is None else known[nearest]
        ready = fitted_to(loaded, replace(attack, eps=eps), place, begun)  # type: ignore[call-arg]
        known[eps] = {surface: one.found for surface, one in ready.items()}
        wrong = max((wrong_on(loaded, place, one) for one in ready.values()), key=np.mean)
        if told is not None:
            told(eps, float(wrong.mean()))
        return wrong

    unit = float(norm_named(attack.norm).length(torch.ones_like(place.like)))
    return search(wrong_at, error, unit=unit, precision=precision, seed=seed)


def search(
    wrong_at: Callable[[float], np.ndarray], error: float, *, unit: float, precision: float | None, seed: int
) -> EpsStar:
    """`wrong_at(eps)` says which images are wrong then, (N,); a share of each is as good."""
    wrong: dict[float, np.ndarray] = {}
    precise = PRECISION * unit if precision is None else precision

    def error_at(eps: float) -> float:
        if eps not in wrong:
            wrong[eps] = wrong_at(eps)
        return float(wrong[eps].mean())

    low, high = 0.0, FIRST * unit
    while error_at(high) < error and high < LARGEST * unit:
        low, high = high, min(2 * high, LARGEST * unit)
    while error_at(high) >= error and high - low > precise:
        middle = (low + high) / 2
        low, high = (low, middle) if error_at(middle) >= error else (middle, high)
    error_at(0.0)
    star, gap = summed_up(wrong, error, seed), 0.0
    for _ in range(MORE):
        largest = max(wrong)
        if not math.isfinite(star.value) or math.isfinite(star.high) or largest >= unit:
            break
        gap = 2 * gap or max(precise, short_of(wrong, error))
        error_at(min(largest + gap, unit))
        star = summed_up(wrong, error, seed)
    return star


def short_of(wrong: dict[float, np.ndarray], error: float) -> float:
    """By how much the largest radius is too small for samples of these images to reach the error, about."""
    *_, before, largest = sorted(wrong)
    slope = (wrong[largest].mean() - wrong[before].mean()) / (largest - before)
    spread = wrong[largest].std() / math.sqrt(len(wrong[largest]))
    missing = error + 2.2 * spread - wrong[largest].mean()
    return float(min(missing / slope, largest / 2)) if slope > 0 else 0.0


def summed_up(wrong: dict[float, np.ndarray], error: float, seed: int) -> EpsStar:
    radii = sorted(wrong)
    table = np.stack([wrong[eps] for eps in radii])  # (E, N)
    value, lowest, highest = crossing_interval(radii, table, error, seed)
    return EpsStar(error, value, lowest, highest, radii, table.mean(1).tolist())


def crossing(radii: Sequence[float], errors: np.ndarray, error: float) -> float:
    """Where the error, which a larger ball can only raise, reaches `error`: linear between the radii tried.

    >>> crossing([0.0, 0.25, 0.5], np.array([0.0, 0.25, 0.75]), 0.5)
    0.375
    """
    rising = np.maximum.accumulate(errors)
    if rising[-1] < error:
        return float("inf")
    place = int(np.argmax(rising >= error))
    if place == 0:
        return float(radii[0])
    part = (error - rising[place - 1]) / (rising[place] - rising[place - 1])
    return float(radii[place - 1] + part * (radii[place] - radii[place - 1]))


def crossing_interval(radii: Sequence[float], table: np.ndarray, error: float, seed: int) -> tuple[float, float, float]:
    """The crossing, and the bootstrap interval over images, of a table (E, N) of what is wrong at each radius."""
    draws = np.random.default_rng(seed)
    count = table.shape[1]
    found = [
        crossing(radii, table @ draws.multinomial(count, np.full(count, 1 / count)) / count, error)
        for _ in range(RESAMPLES)
    ]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="inverted_cdf")  # exact also where some are infinite
    return crossing(radii, table.mean(1), error), float(low), float(high)
