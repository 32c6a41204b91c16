"""Contrastive: two views of one image are more alike than a view of another (Mao et al. 2021, arXiv 2103.14222).

The published code takes the rest of the batch for the others, so that one image's repair depends on its neighbours, and
with four views counts two of the three that belong together among those that do not. Here the others are clean training
images that stay the same, and every pair of views counts for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Layout
from vallum.defences.self_supervision.tasks.base import IMAGE, TASKS, Perceptron, Seen, SelfTask
from vallum.defences.self_supervision.views import Box, cropped, recoloured
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter


class Contrast(nn.Module):
    """A projection, and what it makes of clean images: the negatives."""

    others: Tensor  # (bank, dim), unit length; zeros until they are settled

    def __init__(self, inputs: int, hidden: int, dim: int, bank: int) -> None:
        super().__init__()
        self.project = Perceptron(hidden)(inputs, dim)
        self.register_buffer("others", torch.zeros(bank, dim))

    def forward(self, features: Tensor) -> Tensor:
        return F.normalize(self.project(features), dim=1)


@TASKS.register("contrastive")
@dataclass(frozen=True)
class Contrastive(SelfTask):
    """Views of one image lie together, apart from those of clean training images."""

    views: int = parameter("of each image that are compared", 2)
    anchor: bool = parameter("the first view is the image itself, which other tasks may look at too", False)
    smallest: float = parameter("part of the area that a view shows, at least", 0.3)
    colour: float = parameter("most change of brightness, contrast and saturation, as a share", 0.4)
    flip: bool = parameter("half of the views are mirrored", True)
    temperature: float = parameter("by which similarities are divided", 0.2)
    hidden: int = parameter("width of the head", 256)
    dim: int = parameter("length of what is compared", 128)
    bank: int = parameter("clean training images that are the negatives", 256)

    def __post_init__(self) -> None:
        if self.views < 2:
            raise UserError(f"views={self.views}", "two at least can be compared")
        if not (0 < self.smallest <= 1 and 0 <= self.colour < 1 and self.temperature > 0):
            raise UserError(f"{self}", "smallest in (0, 1], colour in [0, 1), a positive temperature")

    def head(self, layout: Layout) -> Contrast:
        return Contrast(layout.pooled, self.hidden, self.dim, self.bank)

    def draw(self, draws: Draws, layout: Layout) -> list[tuple[Box, Tensor, Tensor] | None]:
        drawn: list[tuple[Box, Tensor, Tensor] | None] = [None] if self.anchor else []
        for view in range(len(drawn), self.views):
            chance = draws.uniform(4, purpose=f"colour of view {view}")  # (n, 4)
            factors = 1 + (chance[:, :3] * 2 - 1) * self.colour
            grey = (chance[:, 3] < 0.2) & (self.colour > 0)
            drawn.append((Box.draw(draws, self.smallest, f"view {view}", self.flip), factors, grey))
        return drawn

    def looks(self, images: Tensor, drawn: Sequence[tuple[Box, Tensor, Tensor] | None]) -> dict[str, Tensor]:
        return {
            self.named(view): recoloured(cropped(images, how[0]), *how[1:]) if how else images
            for view, how in enumerate(drawn)
        }

    def named(self, view: int) -> str:
        """By what it shows: so tasks that show the same share it, and others do not."""
        if self.anchor and view == 0:
            return IMAGE
        return f"view {view} of {self.smallest:g}, {self.colour:g}, {self.flip}"

    def losses(self, head: Contrast, seen: Seen, images: Tensor, drawn: Any) -> Tensor:
        lie = self._projected(head, seen)
        apart = lie @ head.others.T.to(lie) / self.temperature  # (V, N, bank)
        return _away(lie, apart.logsumexp(2), self.temperature)

    def learning(self, head: Contrast, seen: Seen, images: Tensor, drawn: Any) -> Tensor:
        """The other images of the batch are the negatives: what the head makes of them moves with it."""
        lie = self._projected(head, seen)
        n = lie.shape[1]
        between = torch.einsum("vnd,wmd->vnwm", lie, lie) / self.temperature
        own = torch.eye(n, dtype=torch.bool, device=lie.device)[None, :, None]
        apart = between.masked_fill(own, -torch.inf).flatten(2)  # (V, N, V N)
        return _away(lie, apart.logsumexp(2) if n > 1 else lie.new_zeros(lie.shape[:2]), self.temperature)

    def settle(self, head: Contrast, seen: Seen, images: Tensor, drawn: Any) -> None:
        lie = self._projected(head, seen)[-1]  # one view of each
        head.others = lie[torch.arange(self.bank, device=lie.device) % len(lie)].detach().clone()

    def _projected(self, head: Contrast, seen: Seen) -> Tensor:
        """(V, N, dim), in one pass of the head."""
        features = torch.cat([seen[self.named(view)].pooled for view in range(self.views)])
        return head(features).unflatten(0, (self.views, -1))


def _away(lie: Tensor, apart: Tensor, temperature: float) -> Tensor:
    """(N,) from (V, N, dim) and (V, N): of every view with every other the log of its share of all that is near."""
    views = len(lie)
    together = torch.einsum("vnd,wnd->vwn", lie, lie) / temperature
    losses = torch.logaddexp(together, apart[:, None]) - together  # (V, V, N)
    others = ~torch.eye(views, dtype=torch.bool, device=lie.device)
    return losses[others].mean(0)
