"""Stretched and squeezed: a random affine map, then each pixel moved a little with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths
from vallum.threats.corruptions.filters import gaussian_blur
from vallum.threats.corruptions.sampling import folded, sample


def affine_places(moves: Tensor, height: int, width: int) -> Tensor:
    """Where the affine map that takes three points about the middle to where `moves` puts them reads from.

    `moves` is (N, 3, 2), x then y in pixels. The answer takes (column, row, 1) to (column, row): (N, 2, 3).
    """
    side = min(height, width) // 3
    x, y = width // 2, height // 2
    points = torch.tensor([[x + side, y + side], [x + side, y - side], [x - side, y - side]], dtype=torch.float64)
    moved = torch.cat([points + moves.double().cpu(), torch.ones(len(moves), 3, 1, dtype=torch.float64)], 2)
    return torch.linalg.solve(moved, points.expand(len(moves), 3, 2)).transpose(1, 2)


def displacement(uniform: Tensor, alpha: float, sigma: float) -> Tensor:
    """A field of moves in pixels from noise in [-1, 1): smoothed over `sigma` pixels, then scaled."""
    return gaussian_blur(uniform, sigma, "reflect", truncate=3.0) * alpha


@THREATS.register("elastic_transform", "elastic")
@dataclass(frozen=True)
class ElasticTransform(Corruption):
    """Strength: size and smoothness of the moves, and how far three points about the middle may go, in pixels.

    The one corruption of the nineteen after which a pixel shows another place: masks are moved along.
    """

    strengths = Strengths(
        imagenet=[(488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)],
        tiny=[(0, 0, 5.12), (3.2, 19.2, 3.84), (6.4, 5.12, 3.84), (6.4, 1.92, 1.92), (10.24, 1.92, 1.28)],
        cifar=[(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)],
    )
    moves_labels = True

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        rows, columns, affine = self._moves(images, draws, strength)
        grid_rows, grid_columns = _grid(images)
        straight = sample(images, *_through(affine, grid_rows, grid_columns), border="mirror")
        return sample(straight, rows, columns, border="reflect")

    def with_labels(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        altered = self(model, images, labels, keys)
        if labels.ndim != 3:
            return altered, labels
        rows, columns, affine = self._moves(images, self.draws(images, keys), self.strength(images))
        rows, columns = folded(rows, images.shape[2]), folded(columns, images.shape[3])
        places = _through(affine, rows, columns)
        moved = sample(labels[:, None].to(rows.dtype), *places, border="mirror", mode="nearest")
        return altered, moved[:, 0].to(labels.dtype)

    def _moves(self, images: Tensor, draws: Draws, strength: Strength) -> tuple[Tensor, Tensor, Tensor]:
        alpha, sigma, reach = strength
        moves = (draws.uniform(3, 2, purpose="corners") * 2 - 1) * reach
        affine = affine_places(moves, *images.shape[2:]).to(images.device)
        uniform = draws.uniform(2, *images.shape[2:], purpose="moves", device=images.device).to(images.dtype) * 2 - 1
        field = displacement(uniform, alpha, sigma)
        rows, columns = _grid(images)
        return rows + field[:, 1], columns + field[:, 0], affine


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    places = (torch.arange(length, dtype=images.dtype, device=images.device) for length in images.shape[2:])
    rows, columns = torch.meshgrid(*places, indexing="ij")
    return rows[None], columns[None]


def _through(affine: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns (N, h, w) after the affine map."""
    a = affine.to(rows.dtype)[:, :, :, None, None]  # (N, 2, 3, 1, 1)
    x, y = (a[:, axis, 0] * columns + a[:, axis, 1] * rows + a[:, axis, 2] for axis in (0, 1))
    return y, x
