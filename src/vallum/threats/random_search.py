"""Random search, the control of every gradient attack: if it does better, the gradient is hiding something.

Each query repaints a random square of the perturbation with one random colour at the edge of the ball. It is Square
without what makes that strong, for any norm, and useful from a few queries on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.square_search import SquareSearch
from vallum.threats.square_shapes import Proposals, inside


@THREATS.register("random_search")
@dataclass(frozen=True)
class RandomSearch(SquareSearch):
    """Squares of random colour, kept where they raise the loss; needs no gradient.

    >>> RandomSearch(eps=8 / 255, queries=200).spec
    'random_search:eps=8/255,queries=200'
    """

    def propose(self, query: int, drawn: Proposals, delta: Tensor, eps: Tensor, draws: Draws) -> Tensor:
        height, width = delta.shape[2:]
        # The squares shrink from a whole image to a pixel or so as the queries are used up.
        share = (1 - query / self.queries) ** 2
        side = max(1, min(height, width, round((share * height * width) ** 0.5)))
        # Far enough out that the projection comes back to the edge of the ball, whatever the norm.
        return torch.where(inside(drawn.window(query, side, delta), side), drawn.colour(query) * eps, delta)
