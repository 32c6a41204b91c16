"""The light in drops of water: how thick they are, times a relief of how far their edge is.

The steps are those of a classic image-processing chain on bytes (edges by Canny, distance by chamfer, equalised
histogram, emboss), each in integers as there, here for a whole batch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.threats.corruptions.filters import padded

FARTHEST = 20  # pixels, beyond which distance no longer counts
KNIGHT, DIAGONAL = 2.1969, 1.4  # chamfer lengths of a knight's move and of a diagonal one
EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))


def _shifts(wide: Tensor) -> dict[tuple[int, int], Tensor]:
    """The nine neighbours of each pixel, as views of an image with a frame of one pixel."""
    height, width = wide.shape[2] - 2, wide.shape[3] - 2
    return {(y, x): wide[:, :, 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y in (-1, 0, 1) for x in (-1, 0, 1)}


def edges(levels: Tensor, low: int = 50, high: int = 150) -> Tensor:
    """Canny's edges (N, 1, H, W) of images in whole steps 0 .. 255: ridges of the gradient, weak ones if they touch
    strong ones."""
    near = _shifts(padded(levels, 1, 1, 1, 1, "nearest").int())
    right, left = ([near[-1, x], near[0, x], near[1, x]] for x in (1, -1))
    across = right[0] + 2 * right[1] + right[2] - left[0] - 2 * left[1] - left[2]
    below, above = ([near[y, -1], near[y, 0], near[y, 1]] for y in (1, -1))
    down = below[0] + 2 * below[1] + below[2] - above[0] - 2 * above[1] - above[2]
    size = across.abs() + down.abs()
    around = _shifts(F.pad(size, (1, 1, 1, 1)))
    # Which two neighbours lie along the gradient: tan 22.5 degrees and tan 67.5 degrees, in 15 bits.
    steep, flat = down.abs() << 15, across.abs() * 13573
    sideways, upright = steep < flat, steep > flat + (across.abs() << 16)
    slant = (across ^ down) < 0
    # Joined by logic: a choice by torch.where takes many times as long where its outcome cannot be foreseen.
    ridge = (
        (sideways & (size > around[0, -1]) & (size >= around[0, 1]))
        | (upright & (size > around[-1, 0]) & (size >= around[1, 0]))
        | (
            ~(sideways | upright)
            & (
                (slant & (size > around[-1, 1]) & (size > around[1, -1]))
                | (~slant & (size > around[-1, -1]) & (size > around[1, 1]))
            )
        )
    )
    weak = ridge & (size > low)
    found = weak & (size > high)
    while True:
        wide = F.pad(found, (1, 1, 1, 1))
        rows = wide[:, :, :-2] | wide[:, :, 1:-1] | wide[:, :, 2:]
        touched = (rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]) & weak
        if torch.equal(touched, found):
            return found
        found = touched


@lru_cache(maxsize=1)
def _lengths() -> tuple[np.ndarray, np.ndarray]:
    """Chamfer lengths of (rows, columns) 0 .. FARTHEST, as ranks (F + 1, F + 1) among the lengths that occur (R,)."""
    rows, columns = np.indices((FARTHEST + 1, FARTHEST + 1)).astype(np.float64)
    # A chamfer length is the largest of four linear forms, one for each pair of neighbouring moves.
    forms = ((1.0, KNIGHT - 2), (KNIGHT - DIAGONAL, 2 * DIAGONAL - KNIGHT))
    lengths = np.max([one * rows + other * columns for a, b in forms for one, other in ((a, b), (b, a))], 0)
    occurring, ranks = np.unique(lengths.clip(0, FARTHEST).astype(np.float32), return_inverse=True)
    return ranks.reshape(lengths.shape).astype(np.uint8), occurring


def distances(points: Tensor) -> Tensor:
    """How far the nearest of `points` (N, 1, H, W) is, at most FARTHEST, in chamfer lengths (Borgefors 1986)."""
    height, width = points.shape[2:]
    far = torch.full(points.shape, FARTHEST, dtype=torch.uint8, device=points.device)
    row = far.masked_fill(points, 0)  # distance along the row, by doubling how far it has been looked
    reach = 1
    while reach <= FARTHEST:
        sides = F.pad(row, (reach, reach), value=FARTHEST)
        row = torch.minimum(row, torch.minimum(sides[..., :width], sides[..., 2 * reach :]) + reach)
        reach *= 2
    row = F.pad(row, (0, 0, FARTHEST, FARTHEST), value=FARTHEST)
    ranks, lengths = (torch.from_numpy(made).to(points.device) for made in _lengths())
    nearest = far.fill_(len(lengths) - 1)
    for dy in range(FARTHEST + 1):
        above, below = (row[:, :, start : start + height] for start in (FARTHEST - dy, FARTHEST + dy))
        length = ranks[dy].index_select(0, torch.minimum(above, below).flatten().int())
        nearest = torch.minimum(nearest, length.view_as(nearest))
    return lengths.index_select(0, nearest.flatten().int()).view_as(points)


def _box(values: Tensor) -> Tensor:
    near = _shifts(padded(values, 1, 1, 1, 1, "mirror"))
    rows = [near[-1, x] + near[0, x] + near[1, x] for x in (-1, 0, 1)]
    return (rows[0] + rows[1] + rows[2]) / 9


def equalised(levels: Tensor) -> Tensor:
    """Whole steps 0 .. 255 spread so that each is as frequent as the others, per image."""
    n, pixels = len(levels), levels[0].numel()
    flat = levels.flatten(1).long()
    offset = torch.arange(n, device=levels.device)[:, None] * 256
    counts = torch.bincount((flat + offset).flatten(), minlength=n * 256).view(n, 256)
    first = (counts > 0).long().argmax(1, keepdim=True)  # the darkest there is becomes 0
    base = counts.gather(1, first)
    ranks = (counts.cumsum(1) - base).clamp_min(0).float()
    spread = ranks * (255.0 / (pixels - base).clamp_min(1))
    spread = torch.where(base == pixels, first.float(), spread).round()
    return spread.gather(1, flat).view_as(levels)


def sheen(liquid: Tensor) -> Tensor:
    """(N, 1, H, W) in [0, 1] from a layer of liquid that is 0 where the lens is dry."""
    levels = (liquid * 255).floor().clamp(0, 255)
    far = equalised(_box(distances(edges(levels))).floor())
    near = _shifts(padded(far, 1, 1, 1, 1, "mirror"))
    relief = torch.zeros_like(far)
    for place, shifted in near.items():
        relief = relief + EMBOSS[place[0] + 1][place[1] + 1] * shifted
    light = levels * _box(relief.clamp(0, 255)).round()
    return (light / light.amax((2, 3), keepdim=True).clamp_min(1)).to(liquid.dtype)
