"""Noise that surfaces are read from: one tile for all, computed once."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

SIDE = 512  # texels


@functools.cache
def tile() -> np.ndarray:
    """(SIDE * SIDE,) float32 about 0, its deviation about 1: octaves of smooth noise that repeats without a seam."""
    stream = np.random.Generator(np.random.Philox(20_200_423))
    total = np.zeros((SIDE, SIDE))
    for cells, weight in ((4, 0.6), (8, 0.6), (16, 0.6), (32, 0.7), (64, 0.8), (128, 0.9), (256, 0.7)):
        total += weight * _octave(stream.random((cells, cells)) * 2 - 1)
    return (total / total.std()).astype(np.float32).ravel()


def _octave(corners: np.ndarray) -> np.ndarray:
    cells = len(corners)
    place = np.arange(SIDE) * (cells / SIDE)
    low = place.astype(int)
    amount = place - low
    amount = amount * amount * (3 - 2 * amount)
    high = (low + 1) % cells
    rows = corners[low] + (corners[high] - corners[low]) * amount[:, None]
    return rows[:, low] + (rows[:, high] - rows[:, low]) * amount


def noise(across: np.ndarray, along: np.ndarray, texels: float) -> np.ndarray:
    """The tile's value at places in metres, `texels` to the metre."""
    scale = np.float32(texels)
    column = (across * scale + np.float32(1e5)).astype(np.int32) & (SIDE - 1)
    row = (along * scale + np.float32(1e5)).astype(np.int32) & (SIDE - 1)
    return tile().take((row * SIDE + column).astype(np.intp))


def chance(*numbers: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each combination of whole numbers."""
    total: Any = np.float32(0.5)
    for number, factor in zip(numbers, (0.7548777, 0.5698403, 0.3819660), strict=False):
        part = number * np.float32(factor) + total
        part -= np.floor(part)
        total = part * part * np.float32(41.7) + part * np.float32(7.3)
    return total - np.floor(total)
