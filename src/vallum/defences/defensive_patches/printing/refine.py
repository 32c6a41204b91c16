"""A marker's corners to a small part of a pixel: all its black and white edges are laid over those of the photo.

A detector finds each corner from what is near it, to half a pixel or so. Here the marker's pattern, blurred, is moved
until it equals the photo up to brightness and contrast, which Gauss and Newton's method does in a few steps. Where a
pixel begins is settled here, not by the detector, whose methods differ in it by half a pixel.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

POINTS = 4  # that each cell is looked at in, each way
BLUR = 0.25  # of pattern and photo, in cells: small errors then change grey values smoothly
STEPS = 20
FURTHEST = 0.7  # of a cell: whatever moves farther has gone astray


def refined(grey: np.ndarray, cells: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(4, 2) as (x, y), near `corners`, of a marker whose `cells` (7, 7) are true where white, in a photo (H, W).

    Places are those of pixel edges: the photo's corner is (0, 0). Comes back as it was where no better is found.
    """
    count = len(cells)
    cell = float(np.linalg.norm(np.roll(corners, -1, 0) - corners, axis=1).mean()) / count  # in pixels
    part, start = _around(grey, corners, 2 * cell)
    part = gaussian_filter(part.astype(np.float64), BLUR * cell)
    down, right = np.gradient(part)
    pattern = np.kron(np.pad(cells, 1, constant_values=True), np.ones((POINTS, POINTS)))
    pattern = gaussian_filter(pattern, BLUR * POINTS, mode="nearest").ravel()
    line = (np.arange((count + 2) * POINTS) + 0.5) / (POINTS * count) - 1 / count
    points = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)  # in the marker, its corners at 0 and 1
    places = corners - start
    for _ in range(STEPS):
        seen_at = _mapped(places, points)
        value, dx, dy = (_read(layer, seen_at) for layer in (part, right, down))
        moved = np.stack([(_mapped(places + step, points) - seen_at) / 1e-4 for step in _STEPS])  # (8, N, 2)
        slopes = dx * moved[..., 0] + dy * moved[..., 1]  # (8, N)
        # value + slopes * change = contrast * pattern + brightness
        system = np.stack([*slopes, -pattern, -np.ones_like(pattern)], 1)
        change = np.linalg.lstsq(system, -value, rcond=None)[0][:8].reshape(4, 2)
        places = places + change.clip(-0.5 * cell, 0.5 * cell)
        if np.abs(change).max() < 1e-3:
            break
    moved_by = float(np.abs(places + start - corners).max())
    return places + start if moved_by < FURTHEST * cell else corners  # NaN compares as false


_STEPS = 1e-4 * np.eye(8).reshape(8, 4, 2)
_UNIT = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


def homography(from_: np.ndarray, to: np.ndarray) -> np.ndarray:
    """(3, 3): the one that takes four points to four others.

    >>> homography(_UNIT, 2 * _UNIT + 1).round(6).tolist()
    [[2.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]
    """
    rows = []
    for (x, y), (u, v) in zip(from_, to, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
    return np.append(np.linalg.solve(np.array(rows, np.float64), to.ravel()), 1).reshape(3, 3)


def _mapped(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    matrix = homography(_UNIT, corners)
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(moved[:, :2] / moved[:, 2:])


def _read(layer: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.asarray(map_coordinates(layer, (places[:, 1] - 0.5, places[:, 0] - 0.5), order=1, mode="nearest"))


def _around(grey: np.ndarray, corners: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo around some points, and the place of its corner."""
    low = np.maximum(np.floor(corners.min(0) - margin), 0).astype(int)
    high = np.ceil(corners.max(0) + margin).astype(int)
    return grey[low[1] : high[1], low[0] : high[0]], low
