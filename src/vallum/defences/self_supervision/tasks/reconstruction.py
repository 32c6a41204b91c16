"""Inpainting and masked reconstruction: say what was hidden, from what is around it.

Context encoders (Pathak et al. 2016, arXiv 1604.07379) hide one rectangle, masked auto-encoders (He et al. 2021, arXiv
2111.06377) many small squares. Both decode a map of the backbone's features, and want the image's own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Layout
from vallum.defences.self_supervision.tasks.base import TASKS, Seen, SelfTask
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter

GREY = 0.5  # what hidden pixels are painted with


class Painter(nn.Module):
    """From a map of features to pixels: each cell paints the pixels that it stands for."""

    def __init__(self, layout: Layout, map: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.channels, self.height, self.width = layout.image
        self.cell = max(1, round(self.height / map[1]))
        self.body = nn.Sequential(
            nn.Conv2d(map[0], width, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, self.channels * self.cell**2, 1),
        )  # fmt: skip

    def forward(self, map: Tensor) -> Tensor:
        painted = F.pixel_shuffle(self.body(map), self.cell)
        size = (self.height, self.width)
        if painted.shape[2:] == size:
            return painted
        return F.interpolate(painted, size, mode="bilinear", align_corners=False)


class Reconstruction(SelfTask):
    """What both have in common."""

    dense, map_alone = True, True
    look: ClassVar[str]
    width: int

    def head(self, layout: Layout) -> Painter:
        return Painter(layout, layout.map_for(self.name), self.width)

    def draw(self, draws: Draws, layout: Layout) -> Tensor:
        """(n, 1, H, W) which pixels are hidden."""
        raise NotImplementedError

    def looks(self, images: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        return {self.look: images.masked_fill(drawn.to(images.device), GREY)}

    def losses(self, head: Painter, seen: Seen, images: Tensor, drawn: Tensor) -> Tensor:
        hidden, map = drawn.to(images), seen[self.look].map
        assert map is not None
        off = (head(map) - images).square().mean(1, keepdim=True) * hidden  # (N, 1, H, W)
        return off.flatten(1).sum(1) / hidden.flatten(1).sum(1).clamp_min(1)


@TASKS.register("inpainting")
@dataclass(frozen=True)
class Inpainting(Reconstruction):
    """One rectangle is hidden, in the middle or anywhere."""

    hole: float = parameter("its sides, as a share of the image's", 0.5)
    place: Literal["centre", "random"] = parameter("where it is: centre or random", "centre")
    width: int = parameter("channels of the head", 64)

    paper_weight = 10.0
    look = "with a hole"

    def __post_init__(self) -> None:
        if not 0 < self.hole < 1:
            raise UserError(f"hole={self.hole:g}", "a share between 0 and 1")

    def draw(self, draws: Draws, layout: Layout) -> Tensor:
        where = draws.uniform(2, purpose="hole")  # (n, 2)
        where = where if self.place == "random" else torch.full_like(where, 0.5)
        sides = []
        for axis, length in enumerate(layout.image[1:]):
            deep = max(1, round(self.hole * length))
            first = (where[:, axis] * (length - deep)).round().long()[:, None]  # (n, 1)
            at = torch.arange(length)
            sides.append((at >= first) & (at < first + deep))  # (n, L)
        return (sides[0][:, :, None] & sides[1][:, None, :])[:, None]


@TASKS.register("masked")
@dataclass(frozen=True)
class Masked(Reconstruction):
    """Many squares are hidden, drawn anew at each step."""

    share: float = parameter("of the squares that are hidden", 0.5)
    cells: int = parameter("squares along each side of the image", 8)
    width: int = parameter("channels of the head", 64)

    look = "with squares hidden"

    def __post_init__(self) -> None:
        if not (0 < self.share < 1 and self.cells >= 2):
            raise UserError(f"share={self.share:g}, cells={self.cells}", "a share between 0 and 1 of 2x2 or more")

    def draw(self, draws: Draws, layout: Layout) -> Tensor:
        height, width = layout.image[1:]
        rows, columns = min(self.cells, height), min(self.cells, width)
        count = min(max(1, round(self.share * rows * columns)), rows * columns - 1)
        order = draws.uniform(rows * columns, purpose="squares").argsort(1)
        hidden = torch.zeros(order.shape).scatter(1, order[:, :count], 1.0).view(-1, 1, rows, columns)
        return F.interpolate(hidden, (height, width), mode="nearest").bool()
