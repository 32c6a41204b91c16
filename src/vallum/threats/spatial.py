"""Shifted and turned, Engstrom et al. 2019 (arXiv 1712.02779): what a hand that is not steady does to a picture.

The loss over shifts and rotations has so many hills that climbing it is of no use: all of a grid are tried, or as many
at random, and the worst is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Threat
from vallum.threats.corruptions.sampling import folded, sample_exactly
from vallum.threats.losses import loss_named
from vallum.threats.search import Best


@THREATS.register("spatial")
@dataclass(frozen=True)
class Spatial(Threat):
    """The worst of many small shifts and rotations; masks are moved along. Needs no gradient.

    >>> Spatial(shift=0.1, queries=50).spec
    'spatial:queries=50'
    """

    shift: float = parameter("at most, up or down and to either side, as a share of the image's sides", 0.1)
    rotation: float = parameter("at most, in degrees to either side", 30.0)
    search: Literal["grid", "random"] = parameter("through an even grid of shifts and angles, or at random", "grid")
    queries: int = parameter("how many moves are tried, at most: from 774 on there is the paper's grid in it", 100)
    border: Literal["black", "mirror"] = parameter("what lies beyond the image's edges", "black")
    loss: Literal["margin", "cross_entropy"] = parameter("what is raised", "margin")
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of a random search", 0)

    kind = "attack"
    moves_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.shift < 1 or not 0 <= self.rotation <= 180:
            raise UserError(
                f"shift={self.shift:g}, rotation={self.rotation:g}",
                "a share of the side below 1, and between 0 and 180 degrees",
                "write spatial:shift=0.1,rotation=30",
            )
        if self.queries < 1:
            raise UserError(f"queries={self.queries}", "at least 1 is needed")

    @property
    def passes(self) -> float:
        return 1.0 + (len(self.grid()) if self.search == "grid" else self.queries)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.with_labels(model, images, labels, keys)[0]

    @torch.no_grad()
    def with_labels(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        images, loss = images.detach(), loss_named(self.loss)
        moves = self.moves(self.draws(images, keys), images)  # (N, queries, 3)
        best = Best(images, labels.clone(), targeted=False)
        for query in range(moves.shape[1]):
            which = best.standing() if self.early_stop else best.everyone()
            if not len(which):
                break
            point, label = moved(images[which], labels[which], moves[which, query], self.border)
            logits = model(point)
            best.offer(which, point, logits, loss(logits, label), label)
        return best.images, best.labels

    def moves(self, draws: Draws, images: Tensor) -> Tensor:
        """(N, 1 + queries, 3): shares of the most that may be moved down, to the right, and turned, each from -1 to 1.

        The first is none at all, so that no image does better than it did untouched; it is not counted as a query.
        """
        most = torch.tensor([self.shift * images.shape[2], self.shift * images.shape[3], self.rotation])
        if self.search == "random":
            tried = draws.uniform(1 + self.queries, 3, purpose="moves") * 2 - 1
            tried[:, 0] = 0
        else:
            tried = torch.cat([torch.zeros(1, 3), self.grid()]).expand(len(images), -1, -1)
        return (tried * most).to(images)

    def grid(self) -> Tensor:
        """(queries at most, 3): an odd number of places along each axis that is free, the image's own left out."""
        points = self.queries + 1  # with the image's own
        shifts, angles = 1, 1
        if self.shift and self.rotation:
            shifts = 5 if points >= 125 else 3
            angles = max(3, _odd(points // shifts**2))
        elif self.shift:
            shifts = max(3, _odd(math.isqrt(points)))
        elif self.rotation:
            angles = max(3, _odd(points))
        turns = _even(angles)[self.rotation == 180 and angles > 1 :]  # there one way round is the other
        tried = torch.cartesian_prod(_even(shifts), _even(shifts), turns)
        axes = (tried != 0).sum(1)
        order = axes.argsort(stable=True)  # along one axis first: where there are few, these are what there is
        return tried[order][int((axes == 0).sum()) :][: self.queries]


def _even(places: int) -> Tensor:
    """So many from -1 to 1, the middle one exactly 0."""
    half = places // 2
    return torch.arange(-half, half + 1) / max(half, 1)


def _odd(number: int) -> int:
    """The odd number that is no larger, so that the middle is one of so many places."""
    return number if number % 2 else number - 1


def moved(images: Tensor, labels: Tensor, moves: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """Each image moved down and to the right by so many pixels, and turned by so many degrees; masks go along.

    >>> moved(torch.eye(3)[None, None], torch.tensor([0]), torch.tensor([[0.0, 1.0, 0.0]]), "black")[0][0, 0].tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    height, width = images.shape[2:]
    down, right, degrees = moves.view(-1, 3, 1, 1).unbind(1)  # (N, 1, 1) each
    cos, sin = (degrees * (math.pi / 180)).cos(), (degrees * (math.pi / 180)).sin()
    y = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] - (height - 1) / 2 - down
    x = torch.arange(width, device=images.device, dtype=images.dtype)[None] - (width - 1) / 2 - right
    rows, columns = x * sin + y * cos + (height - 1) / 2, x * cos - y * sin + (width - 1) / 2  # (N, H, W)
    return read(images, labels, rows, columns, border)


def read(images: Tensor, labels: Tensor, rows: Tensor, columns: Tensor, border: str) -> tuple[Tensor, Tensor]:
    """Images and masks at these places, black and ignored beyond the edges unless these are mirrors."""
    height, width = images.shape[2:]
    inside = (rows > -0.5) & (rows < height - 0.5) & (columns > -0.5) & (columns < width - 0.5)
    rows, columns = folded(rows, height), folded(columns, width)
    seen = sample_exactly(images, rows, columns).clamp(0, 1)
    if border == "black":
        seen = seen * inside[:, None]
    if labels.ndim == 1:
        return seen, labels
    place = (rows.detach().round() * width + columns.detach().round()).long()
    masks = labels.flatten(1).gather(1, place.flatten(1)).view_as(labels)
    return seen, masks if border == "mirror" else masks.masked_fill(~inside, IGNORE)
