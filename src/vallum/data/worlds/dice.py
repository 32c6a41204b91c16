"""The random numbers of a batch of images, and smooth noise made of them.

All that is computed from them uses operations that IEEE 754 rounds exactly (+ - * / min max floor), so that an image is
the same to the last bit whatever the batch it is made in.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor


def mix(one: Tensor | float, other: Tensor | float, amount: Tensor) -> Tensor:
    """`one` where `amount` is 0, `other` where it is 1."""
    return one + (other - one) * amount


class Dice:
    """Hands out uniform numbers, one column for each question asked: the order of the questions is part of a world.

    >>> dice = Dice(torch.tensor([[0.0, 0.5], [0.5, 0.75]]))
    >>> dice.between(2, 4).flatten().tolist(), dice.chance(0.6).flatten().tolist()
    ([2.0, 3.0], [1.0, 0.0])
    """

    def __init__(self, uniform: Tensor) -> None:
        self._uniform, self._next = uniform, 0  # (N, columns) in [0, 1)

    def roll(self, columns: int = 1) -> Tensor:
        """(N, columns, 1, 1) in [0, 1)."""
        start, self._next = self._next, self._next + columns
        if self._next > self._uniform.shape[1]:
            raise IndexError(f"{self._next} numbers asked for, {self._uniform.shape[1]} drawn")
        return self._uniform[:, start : self._next, None, None]

    def between(self, low: Tensor | float, high: Tensor | float, columns: int = 1) -> Tensor:
        return mix(low, high, self.roll(columns))

    def chance(self, probability: Tensor | float) -> Tensor:
        """1.0 with this probability, else 0.0."""
        return (self.roll() < probability).float()

    def choose(self, table: Tensor) -> Tensor:
        """A row of `table` (rows, columns) for each image: (N, columns, 1, 1)."""
        return table[(self.roll() * len(table)).long().flatten()][:, :, None, None]


def smooth_noise(corners: Sequence[Tensor], weights: Sequence[float], size: int) -> Tensor:
    """Value noise (N, F, size, size) in [0, 1] between random corners: an octave is (N, F, cells + 1, cells + 1)."""
    total = torch.zeros(())
    for octave, weight in zip(corners, weights, strict=True):
        low, high, amount = _between_corners(octave.shape[-1], size)
        rows = mix(octave[:, :, low], octave[:, :, high], amount[:, None])  # (N, F, size, cells + 1)
        total = total + mix(rows[..., low], rows[..., high], amount) * weight
    return total


@functools.cache
def _between_corners(corners: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    place = (torch.arange(size) + 0.5) * (corners - 1) / size
    low = place.floor()
    amount = place - low
    return low.long(), low.long() + 1, amount * amount * (3 - 2 * amount)
