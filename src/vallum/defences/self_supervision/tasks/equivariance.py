"""Equivariance: what is seen moves as the image moves (Mao et al. 2023, arXiv 2212.06079).

Their code compares the two maps cell by cell. Here a head learns from the clean images in what respect they agree, with
the other cells of the same image for contrast: no image looks at another, and a map that is the same all over is no
way out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Layout
from vallum.defences.self_supervision.tasks.base import IMAGE, TASKS, Seen, SelfTask
from vallum.defences.self_supervision.views import Box, cropped
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter

MOST = 8  # cells on a side that are compared: each with every other


@TASKS.register("equivariance")
@dataclass(frozen=True)
class Equivariance(SelfTask):
    """The map of a part of the image, mirrored or not, is that part of the map of the image."""

    count: int = parameter("parts of each image that are looked at", 1)
    smallest: float = parameter("part of the area that each shows, at least", 0.4)
    flip: bool = parameter("half of them are mirrored", True)
    temperature: float = parameter("by which similarities are divided", 0.2)
    dim: int = parameter("length of what is compared in each cell", 64)

    dense, map_alone = True, True

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.smallest <= 1 or self.temperature <= 0:
            raise UserError(f"{self}", "at least 1 part, smallest in (0, 1], a positive temperature")

    def head(self, layout: Layout) -> nn.Module:
        width = layout.map_for(self.name)[0]
        return nn.Sequential(
            nn.Conv2d(width, self.dim, 1, bias=False), nn.BatchNorm2d(self.dim), nn.ReLU(),
            nn.Conv2d(self.dim, self.dim, 1),
        )  # fmt: skip

    def draw(self, draws: Draws, layout: Layout) -> list[Box]:
        return [Box.draw(draws, self.smallest, f"part {place}", self.flip) for place in range(self.count)]

    def looks(self, images: Tensor, drawn: list[Box]) -> dict[str, Tensor]:
        parts = {f"part {place}": cropped(images, box) for place, box in enumerate(drawn)}
        return {IMAGE: images, **parts}

    def losses(self, head: nn.Module, seen: Seen, images: Tensor, drawn: list[Box]) -> Tensor:
        maps = [features.map for name in (IMAGE, *(f"part {p}" for p in range(self.count))) if (features := seen[name])]
        said = head(torch.cat([map for map in maps if map is not None]))
        whole, *parts = said.unflatten(0, (1 + self.count, -1))  # (N, dim, h, w) each
        off = [self._off(part, cropped(whole, box)) for part, box in zip(parts, drawn, strict=True)]
        return torch.stack(off).mean(0)

    def _off(self, part: Tensor, wanted: Tensor) -> Tensor:
        """(N,) how badly each cell is told from the others by what should be in it."""
        cells = min(MOST, part.shape[2]), min(MOST, part.shape[3])
        one, other = (F.normalize(F.adaptive_avg_pool2d(m, cells).flatten(2), dim=1) for m in (part, wanted))
        alike = one.transpose(1, 2) @ other / self.temperature  # (N, L, L)
        return (alike.logsumexp(2) - alike.diagonal(dim1=1, dim2=2)).mean(1)
