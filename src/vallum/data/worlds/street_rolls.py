"""Random numbers for many things at once, handed out in the order in which they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np


class Rolls:
    """Uniform numbers of one shape after another, drawn from a generator.

    >>> rolls = Rolls(np.random.default_rng(0), (2, 3))
    >>> rolls.between(4, 5).shape, rolls.choose(np.eye(7)).shape
    ((2, 3), (2, 3, 7))
    """

    def __init__(self, stream: np.random.Generator, shape: tuple[int, ...]) -> None:
        self.stream, self.shape = stream, shape

    def roll(self) -> np.ndarray:
        """In [0, 1)."""
        return self.stream.random(self.shape)

    def between(self, low: Any, high: Any) -> np.ndarray:
        return low + (high - low) * self.roll()

    def chance(self, probability: Any) -> np.ndarray:
        return self.roll() < probability

    def choose(self, table: np.ndarray) -> np.ndarray:
        """A row of `table` for each: (*shape, columns)."""
        return table[(self.roll() * len(table)).astype(int)]
