"""Random search, the control of every gradient attack: if it does better, the gradient is hiding something.

Each query repaints a random square of the perturbation with one random colour at the edge of the ball and keeps it
where the loss rose, in the manner of Andriushchenko et al. 2020 (arXiv 1912.00049). It sees logits and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.losses import loss_named
from vallum.threats.norms import norm_named, per_image
from vallum.threats.search import Best


@THREATS.register("random_search")
@dataclass(frozen=True)
class RandomSearch(Bounded):
    """Squares of random colour, kept where they raise the loss; needs no gradient.

    >>> RandomSearch(eps=8 / 255, queries=200).spec
    'random_search:eps=8/255,queries=200'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    queries: int = parameter("forward passes", 100)
    loss: Literal["cross_entropy", "margin"] = parameter("what is raised", "margin")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the proposals", 0)

    @property
    def passes(self) -> float:
        return float(self.queries)

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, loss = norm_named(self.norm), loss_named(self.loss)
        best = Best(images, labels, self.targeted)
        draws = self.draws(images, keys)
        radii = per_image(self.eps, images)
        sign = -1.0 if self.targeted else 1.0

        for query in range(self.queries):
            standing = best.standing() if self.early_stop else best.everyone()
            if len(standing) == 0:
                break
            clean, eps = images[standing], radii[standing]
            low, high = -clean, 1 - clean
            # The squares shrink from a whole image to a pixel or so as the queries are used up.
            share = (1 - query / self.queries) ** 2
            inside, colour = _squares(draws.take(standing).of(f"query {query}"), clean, share)
            # Far enough out that the projection comes back to the edge of the ball, whatever the norm.
            delta = torch.where(inside, colour * eps.view(-1, 1, 1, 1), best.images[standing] - clean)
            point = (clean + norm.project(delta, eps, low, high)).clamp(0, 1)
            logits = model(point)
            best.offer(standing, point, logits, sign * loss(logits, labels[standing]))
        return best.images


def _squares(draws: Draws, images: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """For each image a square of about `share` of its area, and a colour of -1 and +1: (N, 1, H, W), (N, C, 1, 1)."""
    height, width = images.shape[2:]
    side = max(1, min(height, width, round((share * height * width) ** 0.5)))
    place = draws.uniform(2, purpose="place", device=images.device)  # (N, 2)
    top = (place[:, 0] * (height - side + 1)).floor().view(-1, 1, 1, 1)
    left = (place[:, 1] * (width - side + 1)).floor().view(-1, 1, 1, 1)
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    signs = draws.integers(2, images.shape[1], 1, 1, purpose="colour", device=images.device) * 2 - 1
    return inside, signs.to(images.dtype)
