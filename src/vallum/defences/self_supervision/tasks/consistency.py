"""Consistency: say from a view what the network makes of the whole image; no negatives are needed.

As in BYOL (Grill et al. 2020, arXiv 2006.07733), but the network is frozen and cannot collapse.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Layout
from vallum.defences.self_supervision.tasks.base import IMAGE, TASKS, Perceptron, Seen, SelfTask
from vallum.defences.self_supervision.tasks.contrastive import Contrastive
from vallum.defences.self_supervision.views import Box
from vallum.images import Draws
from vallum.specs import parameter


@TASKS.register("consistency")
@dataclass(frozen=True)
class Consistency(SelfTask):
    """The feature of the image, foretold from that of a view."""

    smallest: float = parameter("part of the area that the view shows, at least", 0.3)
    colour: float = parameter("most change of brightness, contrast and saturation, as a share", 0.4)
    flip: bool = parameter("half of the views are mirrored", True)
    hidden: int = parameter("width of the head", 256)

    def __post_init__(self) -> None:
        self._views  # refuses what the contrastive task refuses  # noqa: B018

    @property
    def _views(self) -> Contrastive:
        """The same views as the contrastive task's, the image itself first: one pass for both where both are asked."""
        return Contrastive(anchor=True, smallest=self.smallest, colour=self.colour, flip=self.flip)

    def head(self, layout: Layout) -> nn.Module:
        return Perceptron(self.hidden)(layout.pooled, layout.pooled)

    def draw(self, draws: Draws, layout: Layout) -> list[tuple[Box, Tensor, Tensor] | None]:
        return self._views.draw(draws, layout)

    def looks(self, images: Tensor, drawn: list[tuple[Box, Tensor, Tensor] | None]) -> dict[str, Tensor]:
        return self._views.looks(images, drawn)

    def losses(self, head: nn.Module, seen: Seen, images: Tensor, drawn: object) -> Tensor:
        said, true = head(seen[self._views.named(1)].pooled), seen[IMAGE].pooled
        return 1 - F.cosine_similarity(said, true, dim=1)
