"""How sure one can be of a rate, of a difference, and of a mean IoU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95  # of every interval that vallum prints


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


def rate(successes: int, n: int) -> Interval:
    """A share with its Wilson interval, which keeps its coverage near 0 and 1 where the usual one fails.

    >>> rate(0, 100)
    Interval(value=0.0, low=0.0, high=0.0369...)
    """
    if n == 0:
        return Interval(float("nan"), 0.0, 1.0)
    found = stats.binomtest(successes, n).proportion_ci(LEVEL, "wilson")
    return Interval(successes / n, float(found.low), float(found.high))


def share(values: np.ndarray) -> Interval:
    """The mean of numbers in 0 .. 1 over images: Wilson's interval where each is 0 or 1, else a bootstrap.

    >>> share(np.array([0.0, 0.5, 1.0])).value
    0.5
    """
    if bool(np.isin(values, (0, 1)).all()):
        return rate(int(values.sum()), len(values))
    return mean_iou(values[:, None], np.ones((len(values), 1)))


@dataclass(frozen=True)
class Paired:
    """Two models on the same images: how often only one of them was right, and how likely that is by chance."""

    both: int
    only_first: int
    only_second: int
    neither: int
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> Paired:
    """McNemar's exact test on two boolean arrays over the same images.

    >>> mcnemar(np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)).p
    0.5
    """
    first, second = first.astype(bool), second.astype(bool)
    one, other = int((first & ~second).sum()), int((~first & second).sum())
    p = float(stats.binomtest(one, one + other).pvalue) if one + other else 1.0
    return Paired(int((first & second).sum()), one, other, int((~first & ~second).sum()), p)


def holm(values: Sequence[float]) -> list[float]:
    """P-values corrected for how many there are, as Holm (1979) does: each may be held against 0.05.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=lambda place: values[place])
    corrected, least = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = least
    return corrected


def paired_rates(first: np.ndarray, second: np.ndarray) -> Interval:
    """How much more often the second model is right than the first, on the same images.

    The interval is that of Agresti and Min (2005): Wald's, after half an image is added to each of the four cells,
    which keeps its coverage where few images differ.

    >>> paired_rates(np.array([1, 0, 0, 0], bool), np.array([1, 1, 1, 0], bool)).value
    0.5
    """
    first, second, n = first.astype(bool), second.astype(bool), len(first)
    if n == 0:
        return Interval(float("nan"), -1.0, 1.0)
    only_second, only_first = int((~first & second).sum()) + 0.5, int((first & ~second).sum()) + 0.5
    middle = (only_second - only_first) / (n + 2)
    spread = ((only_second + only_first) / (n + 2) - middle**2) / (n + 2)
    reach = float(stats.norm.ppf(1 - (1 - LEVEL) / 2)) * spread**0.5
    return Interval((only_second - only_first) / n, max(middle - reach, -1.0), min(middle + reach, 1.0))


def difference(first: np.ndarray, second: np.ndarray) -> tuple[Interval, float]:
    """How much more the second scores than the first on the same images, with p: for 0 and 1, and for means of them.

    >>> difference(np.array([0.0, 0.5, 1.0]), np.array([0.5, 1.0, 1.0]))[0].value
    0.333...
    """
    if len(first) and bool(np.isin(np.concatenate([first, second]), (0, 1)).all()):
        return paired_rates(first, second), mcnemar(first, second).p
    apart = second.astype(float) - first
    gain = mean_iou(apart[:, None], np.ones((len(apart), 1)))
    return gain, float(stats.wilcoxon(apart).pvalue) if bool(apart.any()) else 1.0


Counts = tuple[np.ndarray, np.ndarray]  # intersection and union per image and class, (N, K) each


def mean_iou(intersection: np.ndarray, union: np.ndarray, seed: int = 0, resamples: int = 2000) -> Interval:
    """Mean IoU over the classes that occur, from counts per image and class (N, K), with a bootstrap over images.

    >>> mean_iou(np.array([[3, 0]]), np.array([[4, 0]])).value
    0.75
    """
    if len(intersection) == 0:
        return Interval(float("nan"), 0.0, 1.0)
    return _bootstrap(len(intersection), lambda times: _miou(times @ intersection, times @ union), seed, resamples)


def paired_ious(first: Counts, second: Counts, seed: int = 0, resamples: int = 2000) -> Interval:
    """How much more mean IoU the second model has than the first, with a bootstrap over the images both saw.

    >>> one, other = (np.array([[1, 0]]), np.array([[4, 0]])), (np.array([[3, 0]]), np.array([[4, 0]]))
    >>> paired_ious(one, other).value
    0.5
    """
    if len(first[0]) == 0:
        return Interval(float("nan"), -1.0, 1.0)

    def gain(times: np.ndarray) -> np.ndarray:
        before, after = (_miou(times @ intersection, times @ union) for intersection, union in (first, second))
        return after - before

    return _bootstrap(len(first[0]), gain, seed, resamples)


def _bootstrap(n: int, of: Callable[[np.ndarray], np.ndarray], seed: int, resamples: int) -> Interval:
    """What `of` makes of each image counted once, and the middle of what it makes of n images drawn again and again.

    `of` takes how often each image counts, (R, N), and answers (R,).
    """
    generator = np.random.default_rng(seed)
    drawn = np.empty(resamples)
    for start in range(0, resamples, 100):  # in blocks, so that memory stays small for many images
        times = generator.multinomial(n, np.full(n, 1 / n), size=min(100, resamples - start))  # (R, N)
        drawn[start : start + len(times)] = of(times)
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Interval(float(of(np.ones((1, n), int))[0]), float(low), float(high))


def _miou(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Mean over the last axis of IoU where the union is not empty."""
    occurs = union > 0
    ratio = np.where(occurs, intersection / np.maximum(union, 1), 0.0)
    return ratio.sum(-1) / np.maximum(occurs.sum(-1), 1)
