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
GUIDES = 512  # where to begin in a row of the distribution, by the draw


@lru_cache(maxsize=16)
def _tables(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """P(count <= k) for each level (LEVELS, K), and the first k to try for each level and guide (LEVELS, GUIDES)."""
    means = np.arange(LEVELS) * (scale / (LEVELS - 1))
    # float32 draws resolve 2 ** -24, beyond which no count is ever drawn
    highest = int(distribution.isf(2.0**-26, means.max())) + 2
    below = distribution.cdf(np.arange(highest + 1), means[:, None]).astype(np.float32)
    below[:, -1] = 2.0
    starts = np.arange(GUIDES, dtype=np.float32) / GUIDES
    first = np.stack([np.searchsorted(row, starts, side="right") for row in below]).astype(np.int32)
    return below, first


def _count(level: Tensor, chance: Tensor, scale: float) -> Tensor:
    """The smallest k with chance < P(count <= k), both (M,)."""
    table, first = (torch.from_numpy(made).to(chance.device) for made in _tables(scale))
    begins = level * table.shape[1]
    place = begins + first.view(-1).index_select(0, level * GUIDES + (chance * GUIDES).int())
    table = table.view(-1)
    short = (chance >= table.index_select(0, place)).nonzero()[:, 0]
    wanted, at = chance[short], place[short]
    while len(short):
        at = at + 1
        place[short] = at
        still = wanted >= table.index_select(0, at)
        short, wanted, at = short[still], wanted[still], at[still]
    return place - begins


def poisson(images: Tensor, scale: float, chance: Tensor, draws: Draws) -> Tensor:
    """Counts of mean `images * scale`, images in [0, 1], from draws uniform in [0, 1), all (N, C, H, W).

    A value between two of eight bits is the lower one and a rest, and the counts of both add up.
    """
    scaled = images * (LEVELS - 1) + ROUNDING
    level = scaled.int()
    counts = _count(level.view(-1), chance.reshape(-1), scale).view_as(level).to(images.dtype)
    rest = scaled - level
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
