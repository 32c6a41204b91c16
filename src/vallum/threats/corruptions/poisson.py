"""Poisson counts for whole batches, by looking up the inverse of the distribution."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.stats import poisson as distribution
from torch import Tensor

from vallum.images import Draws

LEVELS = 256  # images come from eight bits: their values are nearly always one of these
ROUNDING = 1e-3  # how near to a level a value counts as that level
CELLS = 1024  # of the draws: in most of them the count is the same for every draw


@lru_cache(maxsize=16)
def _tables(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """For each level, P(count <= k) (LEVELS, K), and the count of each cell (LEVELS, CELLS).

    Where draws of one cell have several counts, it holds the lowest less 2 ** 24.
    """
    means = np.arange(LEVELS) * (scale / (LEVELS - 1))
    # float32 draws resolve 2 ** -24, beyond which no count is ever drawn
    highest = int(distribution.isf(2.0**-26, means.max())) + 2
    below = distribution.cdf(np.arange(highest + 1), means[:, None]).astype(np.float32)
    below[:, -1] = 2.0
    lowest = np.arange(CELLS, dtype=np.float32) / CELLS
    highest_draw = np.nextafter(lowest + np.float32(1 / CELLS), np.float32(0))
    first, last = (
        np.stack([np.searchsorted(row, draws, side="right") for row in below]) for draws in (lowest, highest_draw)
    )
    return below, (first - 2**24 * (first < last)).astype(np.float32)


def _count(level: Tensor, chance: Tensor, scale: float) -> Tensor:
    """The smallest k with chance < P(count <= k), both (M,); as floats."""
    table, cells = (torch.from_numpy(made).to(chance.device) for made in _tables(scale))
    counts = cells.view(-1).index_select(0, torch.add((chance * CELLS).int(), level, alpha=CELLS))
    unsure = negative(counts)
    count, wanted = counts[unsure].int() + 2**24, chance[unsure]
    row, table = level[unsure] * table.shape[1], table.view(-1)
    while bool((more := wanted >= table.index_select(0, row + count)).any()):
        count += more
    counts[unsure] = count.to(counts.dtype)
    return counts


def negative(values: Tensor) -> Tensor:
    """Where (M,) values are below 0: NumPy looks several times faster than torch does on a processor."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(values.numpy() < 0))
    return (values < 0).nonzero()[:, 0]


def poisson(images: Tensor, scale: float, chance: Tensor, draws: Draws) -> Tensor:
    """Counts of mean `images * scale`, images in [0, 1], from draws uniform in [0, 1), all (N, C, H, W).

    A value between two of eight bits is the lower one and a rest, and the counts of both add up.
    """
    scaled = (images * (LEVELS - 1)).add_(ROUNDING)
    level = scaled.int()
    counts = _count(level.view(-1), chance.reshape(-1), scale).view_as(level).to(images.dtype)
    rest = scaled.sub_(level)
    grainy = rest.flatten(1).amax(1) > 2 * ROUNDING
    if bool(grainy.any()):
        some = draws.take(grainy).uniform(*images.shape[1:], purpose="rest", device=images.device)
        mean = (rest[grainy] - ROUNDING).clamp_min(0) * (scale / (LEVELS - 1))
        counts[grainy] += _small(mean, some)
    return counts


def _small(mean: Tensor, chance: Tensor) -> Tensor:
    """Counts of small means, by adding up the distribution until it passes the draw."""
    weight = torch.exp(-mean)
    total, counts = weight.clone(), torch.zeros_like(mean)
    k = 0
    while bool((more := chance.to(mean.dtype) >= total).any()) and k < 64:
        k += 1
        counts += more
        weight = weight * (mean / k)
        total = total + weight
    return counts
