"""Rotation: say by how many quarters an image was turned (Gidaris et al. 2018, arXiv 1803.07728)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Layout
from vallum.defences.self_supervision.tasks.base import IMAGE, TASKS, Perceptron, Seen, SelfTask
from vallum.defences.self_supervision.views import turned, turned_all
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter


@TASKS.register("rotation")
@dataclass(frozen=True)
class Rotation(SelfTask):
    """Which way is up: all four ways at each step, or some that are drawn."""

    count: int = parameter("ways that an image is shown at each step; 4: every one", 4)
    hidden: int = parameter("width of the head", 256)

    paper_weight = 50.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 4:
            raise UserError(f"count={self.count}", "there are four ways to turn an image by quarters")

    def head(self, layout: Layout) -> nn.Module:
        return Perceptron(self.hidden)(layout.summary, 4)

    def draw(self, draws: Draws, layout: Layout) -> Tensor:
        """(n, count) quarters."""
        if self.count == 4:
            return torch.arange(4).expand(len(draws), 4)
        return draws.uniform(4, purpose="quarters").argsort(1)[:, : self.count]

    def looks(self, images: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        if self.count == 4:
            return {_name(quarter): turned_all(images, quarter) for quarter in range(4)}
        return {f"turned, {place}": turned(images, drawn[:, place]) for place in range(self.count)}

    def losses(self, head: nn.Module, seen: Seen, images: Tensor, drawn: Tensor) -> Tensor:
        names = [_name(q) for q in range(4)] if self.count == 4 else [f"turned, {p}" for p in range(self.count)]
        said = head(torch.cat([seen[name].summary for name in names]))  # (count N, 4)
        true = drawn.T.expand(self.count, len(drawn)).repeat_interleave(len(images) // len(drawn), 1)  # (count, N)
        return F.cross_entropy(said, true.flatten().to(said.device), reduction="none").view(self.count, -1).mean(0)


def _name(quarter: int) -> str:
    return f"turned by {quarter}" if quarter else IMAGE
