"""The smallest radius at which a universal perturbation makes the error as large as asked, with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vallum.data import load_data
from vallum.errors import UserError
from vallum.evaluation.evaluator import choose
from vallum.evaluation.fitting import source
from vallum.evaluation.statistics import LEVEL
from vallum.models import load_model
from vallum.threats import threat as make_threat
from vallum.threats.universal.base import Fitted
from vallum.threats.universal.found import Found
from vallum.threats.universal.goals import accuracy_left

LARGEST = 64 / 255  # a radius at which any model should be lost; where one is not, the search is to be doubted
RESAMPLES = 2000


@dataclass(frozen=True)
class EpsStar:
    """`value` with its interval over images; infinity where the error is not reached within the largest radius."""

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
    precision: float = 1 / 255,
    seed: int = 0,
    batch_size: int = 64,
    told: Callable[[float, float], None] | None = None,
) -> EpsStar:
    """Look for the radius by doubling and halving; each search starts from what was found at other radii, too.

    `data` are images to evaluate on, `n` of them; the perturbations are fitted on the others, or on what the threat
    names. The interval is over the images that are evaluated: another search may find another perturbation. `told` is
    called with each radius and error.

        eps_star("builtin:signs_resnet", "builtin:signs?split=val", error=0.5, n=1000).value
    """
    if not 0 < error < 1:
        raise UserError(f"error={error:g}", "a share between 0 and 1")
    loaded, images = load_model(model), load_data(data)
    attack = make_threat(threat) if isinstance(threat, str) else threat
    if not isinstance(attack, Fitted):
        raise UserError(f"{attack.spec} is fitted to no model", remedy="give universal, with what it takes")
    chosen = choose(len(images), n if n is None else min(n, len(images) // 2), seed)
    where = source(attack, images, chosen, seed)
    if len(where.folds) > 1:
        where = replace(where, folds=[sorted(set(range(len(images))) - set(chosen))])
    wrong: dict[float, np.ndarray] = {}  # by radius, the share of each image that is wrong
    known: dict[float, Found] = {}

    def error_at(eps: float) -> float:
        if eps not in wrong:
            nearest = min(known, key=lambda other: abs(other - eps), default=None)
            begun = replace(attack, eps=eps, found=None if nearest is None else known[nearest])  # type: ignore[call-arg]
            ready = begun.fit(loaded, where.data, where.folds[0])
            assert ready.found is not None
            known[eps] = ready.found
            wrong[eps] = wrong_on(loaded, images, chosen, ready, batch_size)
            if told is not None:
                told(eps, float(wrong[eps].mean()))
        return float(wrong[eps].mean())

    low, high = 0.0, 8 / 255
    while error_at(high) < error and high < LARGEST:
        low, high = high, min(2 * high, LARGEST)
    while error_at(high) >= error and high - low > precision:
        middle = (low + high) / 2
        low, high = (low, middle) if error_at(middle) >= error else (middle, high)
    wrong[0.0] = wrong_on(loaded, images, chosen, None, batch_size)
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


def wrong_on(model: Any, data: Any, chosen: Sequence[int], attack: Fitted | None, batch_size: int) -> np.ndarray:
    """(N,) the share of each image that the model has wrong."""
    shares = []
    for start in range(0, len(chosen), batch_size):
        batch = data.batch(chosen[start : start + batch_size]).to(model.device)
        if len(batch):
            images = batch.images if attack is None else attack(model, batch.images, batch.labels, batch.keys)
            with torch.no_grad():
                answers = model(images).argmax(1)
            shares.append(1 - accuracy_left(answers, batch.labels, answers).cpu().numpy())
    return np.concatenate(shares)
