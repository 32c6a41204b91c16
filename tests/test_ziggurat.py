"""Normal noise against the normal distribution, and words against NumPy's own uniform draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vallum.images import Draws
from vallum.ziggurat import LAYERS, _widths, normal, words


def stream(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def test_layers_have_equal_area_and_reach_the_top() -> None:
    widths = _widths()
    heights = np.exp(-(widths**2) / 2)
    areas = widths[1:-1] * (heights[2:] - heights[1:-1])
    tail = np.sqrt(2 * np.pi) * stats.norm.sf(widths[1])
    assert len(widths) == LAYERS + 1
    assert areas == pytest.approx(areas[0], rel=1e-9)
    assert widths[1] * heights[1] + tail == pytest.approx(areas[0], rel=1e-9)


def test_normal() -> None:
    drawn = normal(stream(), (4, 500_000))
    flat, count = drawn.ravel().astype(np.float64), drawn.size
    assert drawn.shape == (4, 500_000)
    assert drawn.dtype == np.float32
    assert stats.kstest(flat, "norm").pvalue > 1e-3
    # Where the layers' ends and the tail are: as many in each of 200 bins, and beyond, as there should be.
    edges = np.concatenate([[-np.inf], np.linspace(-4.2, 4.2, 200), [np.inf]])
    expected = count * np.diff(stats.norm.cdf(edges))
    assert stats.chisquare(np.histogram(flat, edges)[0], expected).pvalue > 1e-3
    assert abs((flat**2).mean() - 1) < 4 * (2 / count) ** 0.5
    # Neighbours know nothing of each other, nor of each other's size.
    for one, other in ((flat[:-1], flat[1:]), (flat[:-1] ** 2, flat[1:] ** 2), (flat[:-1], flat[1:] ** 2)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / count**0.5


def test_words_are_those_that_numpy_makes_uniform_draws_of() -> None:
    for count in (0, 1, 7, 1000):
        expected = stream(3).random(count, dtype=np.float32)
        assert np.array_equal((words(stream(3), count) >> 8) * np.float32(2**-24), expected)
    drawn = Draws(1, [5, 9]).uniform(3, 7, purpose="noise")
    again = [one.random((3, 7), dtype=np.float32) for one in Draws(1, [5, 9]).each("noise")]
    assert np.array_equal(drawn.numpy(), np.stack(again))
