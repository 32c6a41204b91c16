"""Random search over squares: what Square and its plainer kin have in common, which is all but what they propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import Bounded
from vallum.threats.losses import Loss, loss_named
from vallum.threats.norms import norm_named, per_image
from vallum.threats.search import Best
from vallum.threats.square_shapes import AT_ONCE, Proposals


@dataclass(frozen=True)
class SquareSearch(Bounded):
    """Changes to a perturbation, each of which is kept where it raises the loss; logits are all that is seen."""

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    queries: int = parameter("forward passes", 100)
    loss: Literal["margin", "cross_entropy"] = parameter("what is raised", "margin")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the proposals", 0)

    @property
    def passes(self) -> float:
        return float(self.queries)

    def propose(self, query: int, drawn: Proposals, delta: Tensor, eps: Tensor, draws: Draws) -> Tensor:
        """The next perturbation (N, C, H, W) to try for each image; `eps` is (N, 1, 1, 1). It is projected later."""
        raise NotImplementedError

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
                drawn = Proposals.drawn(draws.take(standing).of(f"from {query}"), clean)
            ahead = self.propose(query, drawn, delta, eps, draws.take(standing))
            ahead = norm.project(ahead, eps.view(-1), -clean, 1 - clean)
            point = (clean + ahead).clamp(0, 1)
            logits = model(point)
            values = loss(logits, best.labels[standing])
            best.offer(standing, point, logits, values)
            better = (values > value) & (values < torch.inf)
            value, delta = torch.where(better, values, value), torch.where(better.view(-1, 1, 1, 1), ahead, delta)
            if self.early_stop and bool((gone := best.has_fallen[standing]).any()):
                stays = ~gone
                standing, clean, eps, value, delta = (t[stays] for t in (standing, clean, eps, value, delta))
                drawn = drawn.take(stays)
