"""Square, Andriushchenko et al. 2020 (arXiv 1912.00049): random search over squares, for the norms inf and 2.

It sees logits and nothing else. In the norm inf a square is repainted at the edge of the ball; in the norm 2 the
energy of one window is moved to another, where it takes the shape of two pyramids of opposite sign.
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
from vallum.threats.losses import Loss, loss_named
from vallum.threats.norms import norm_named, per_image
from vallum.threats.search import Best
from vallum.threats.square_shapes import AT_ONCE, Proposals, inside, moved_energy, pyramids, side_of, stripes


@THREATS.register("square")
@dataclass(frozen=True)
class Square(Bounded):
    """Random search over squares, the strongest attack that asks for logits alone.

    >>> Square(eps=8 / 255, queries=1000).spec
    'square:eps=8/255,queries=1000'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2"] = parameter("in which the radius is measured", "inf")
    queries: int = parameter("forward passes", 5000)
    area: float = parameter("of the first squares, as a share of the image", 0.8)
    loss: Literal["margin", "cross_entropy"] = parameter("what is raised", "margin")
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
        best = Best(images, labels, self.targeted)
        loss, sign = loss_named(self.loss), -1.0 if self.targeted else 1.0
        self.search(model, best, images, lambda logits, labels: sign * loss(logits, labels), self.draws(images, keys))
        return best.images

    def search(self, model: nn.Module, best: Best, images: Tensor, loss: Loss, draws: Draws) -> None:
        """Spend the queries on the images that stand, each of which begins anew."""
        norm, radii = norm_named(self.norm), per_image(self.eps, images)
        standing = best.standing() if self.early_stop else best.everyone()
        clean, eps = images[standing], radii[standing].view(-1, 1, 1, 1)
        value = torch.full_like(radii[standing], -torch.inf, dtype=best.loss.dtype)
        delta = torch.zeros_like(clean)
        for query in range(self.queries):
            if not len(standing):
                return
            if query % AT_ONCE == 0:
                proposals = Proposals.drawn(draws.take(standing).of(f"from {query}"), clean)
            side = side_of(self.area, query / self.queries, clean)
            if query == 0:
                ahead = (stripes if self.norm == "inf" else pyramids)(draws.take(standing), clean) * eps
            elif self.norm == "inf":
                ahead = torch.where(
                    inside(proposals.window(query, side, clean), side), proposals.colour(query) * eps, delta
                )
            else:
                ahead = moved_energy(proposals, query, side, delta, eps)
            ahead = norm.project(ahead, eps.view(-1), -clean, 1 - clean)
            point = (clean + ahead).clamp(0, 1)
            logits = model(point)
            values = loss(logits, best.labels[standing])
            best.offer(standing, point, logits, values)
            better = values > value
            value, delta = torch.where(better, values, value), torch.where(better.view(-1, 1, 1, 1), ahead, delta)
            if self.early_stop and bool((gone := best.has_fallen[standing]).any()):
                stays = ~gone
                standing, clean, eps, value, delta = (t[stays] for t in (standing, clean, eps, value, delta))
                proposals = proposals.take(stays)
