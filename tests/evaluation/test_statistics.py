"""Intervals and tests against closed forms and independent implementations."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassJaccardIndex

from vallum.evaluation.statistics import mcnemar, mean_iou, paired_ious, paired_rates, rate

Z = 1.959963984540054


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_rate_is_wilsons_closed_form(case: tuple[int, int]) -> None:
    k, n = case
    p = k / n
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    found = rate(k, n)
    assert found.value == p
    assert found.low == pytest.approx(max(0, middle - half), abs=1e-9)
    assert found.high == pytest.approx(min(1, middle + half), abs=1e-9)
    assert 0 <= found.low <= p <= found.high <= 1 or found.low == pytest.approx(p) or found.high == pytest.approx(p)


def test_no_images_know_nothing() -> None:
    assert (rate(0, 0).low, rate(0, 0).high) == (0, 1)
    assert math.isnan(rate(0, 0).value)


@pytest.mark.parametrize(("one", "other"), list(product(range(6), repeat=2)))
def test_mcnemar_counts_coin_throws(one: int, other: int) -> None:
    """Exact McNemar: as likely as this or less so, when the discordant images are throws of a fair coin."""
    n = one + other
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    expected = sum(c for c in chances if c <= chances[one] * (1 + 1e-9))
    first = np.array([1] * one + [0] * other + [1, 0], bool)
    second = np.array([0] * one + [1] * other + [1, 0], bool)
    found = mcnemar(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (1, one, other, 1)
    assert found.p == pytest.approx(min(1.0, expected))


def test_mean_iou_agrees_with_torchmetrics() -> None:
    torch.manual_seed(0)
    answers, labels = torch.randint(5, (6, 9, 7)), torch.randint(5, (6, 9, 7))
    one_hot = [torch.nn.functional.one_hot(t, 5).bool() for t in (answers, labels)]
    intersection = (one_hot[0] & one_hot[1]).sum((1, 2)).numpy()
    union = (one_hot[0] | one_hot[1]).sum((1, 2)).numpy()
    reference = MulticlassJaccardIndex(num_classes=5, average="macro")(answers, labels)
    found = mean_iou(intersection, union)
    assert found.value == pytest.approx(float(reference), abs=1e-6)
    assert found.low < found.value < found.high


def test_mean_iou_of_a_class_that_never_occurs_is_left_out() -> None:
    found = mean_iou(np.array([[2, 0], [2, 0]]), np.array([[4, 0], [4, 0]]))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_bootstrap_covers_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        hits = generator.random((60, 1)) < 0.7
        found = mean_iou(hits.astype(int), np.ones((60, 1), int), seed=trial, resamples=400)
        covered += found.low <= 0.7 <= found.high
    assert 175 <= covered <= 199  # 95 % of 200, to within four standard deviations and the bootstrap's small bias


@pytest.mark.parametrize(
    ("both", "only_first", "only_second"), [(0.5, 0.02, 0.05), (0.1, 0.3, 0.05), (0.9, 0.01, 0.01)]
)
def test_a_paired_difference_covers_as_often_as_it_says(both: float, only_first: float, only_second: float) -> None:
    """Drawn again and again from known shares, the interval holds the true difference about 95 times in 100."""
    generator = np.random.default_rng(0)
    shares = [both, only_first, only_second, 1 - both - only_first - only_second]
    covered = 0
    for _ in range(1000):
        kind = generator.choice(4, size=100, p=shares)
        found = paired_rates(np.isin(kind, (0, 1)), np.isin(kind, (0, 2)))
        assert found.low <= found.value <= found.high
        covered += found.low <= only_second - only_first <= found.high
    assert covered >= 925  # four standard deviations below 950; the method is known to err to the careful side


def test_a_paired_difference_of_mean_ious() -> None:
    generator = np.random.default_rng(1)
    union = generator.integers(1, 50, (40, 3))
    first, second = (generator.integers(0, union + 1) for _ in range(2))
    found = paired_ious((first, union), (second, union))
    assert found.value == pytest.approx(mean_iou(second, union).value - mean_iou(first, union).value)
    assert found.low < found.value < found.high
    nothing = paired_ious((first, union), (first, union))
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
