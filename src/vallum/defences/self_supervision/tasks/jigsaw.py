"""Jigsaw: say in which order the tiles of an image were laid (Noroozi & Favaro 2016, arXiv 1603.09246)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Layout
from vallum.defences.self_supervision.tasks.base import TASKS, Perceptron, Seen, SelfTask
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter


@TASKS.register("jigsaw")
@dataclass(frozen=True)
class Jigsaw(SelfTask):
    """One of some orders, chosen beforehand to differ from each other in as many tiles as can be."""

    grid: int = parameter("tiles along each side", 2)
    orders: int = parameter("in which they may lie", 12)
    count: int = parameter("orders that are shown at each step", 1)
    hidden: int = parameter("width of the head", 256)

    def __post_init__(self) -> None:
        if self.grid < 2 or not 2 <= self.orders <= 100 or (self.grid == 2 and self.orders > 24):
            raise UserError(f"{self}", "a grid of 2 or more, and 2 to 100 orders, of 2x2 tiles 24 at most")
        if not 1 <= self.count <= self.orders:
            raise UserError(f"count={self.count}", f"1 to {self.orders}, as many as there are orders")

    def head(self, layout: Layout) -> nn.Module:
        if min(layout.image[1:]) < self.grid:
            raise UserError(f"images of {layout.image[1]}x{layout.image[2]} have no {self.grid} tiles a side")
        return Perceptron(self.hidden)(layout.summary, self.orders)

    def draw(self, draws: Draws, layout: Layout) -> Tensor:
        """(n, count) which of the orders."""
        return draws.uniform(self.orders, purpose="orders").argsort(1)[:, : self.count]

    def looks(self, images: Tensor, drawn: Tensor) -> dict[str, Tensor]:
        return {f"puzzle {place}": self._laid(images, drawn[:, place]) for place in range(self.count)}

    def losses(self, head: nn.Module, seen: Seen, images: Tensor, drawn: Tensor) -> Tensor:
        said = head(torch.cat([seen[f"puzzle {place}"].summary for place in range(self.count)]))  # (count N, orders)
        true = drawn.T.expand(self.count, len(drawn)).repeat_interleave(len(images) // len(drawn), 1)
        return F.cross_entropy(said, true.flatten().to(said.device), reduction="none").view(self.count, -1).mean(0)

    def _laid(self, images: Tensor, which: Tensor) -> Tensor:
        """Tiles moved whole; what is left over at the right and at the bottom stays."""
        g, (n, c, height, width) = self.grid, images.shape
        h, w = height // g, width // g
        tiles = images[:, :, : g * h, : g * w].reshape(n, c, g, h, g, w).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        order = far_apart(g * g, self.orders)[which].to(images.device)  # (1 or n, g g)
        moved = tiles.gather(1, order.expand(n, -1)[:, :, None, None, None].expand(-1, -1, c, h, w))
        laid = moved.unflatten(1, (g, g)).permute(0, 3, 1, 4, 2, 5).reshape(n, c, g * h, g * w)
        if (g * h, g * w) == (height, width):
            return laid
        right = torch.cat([laid, images[:, :, : g * h, g * w :]], 3)
        return torch.cat([right, images[:, :, g * h :]], 2)


@functools.cache
def far_apart(tiles: int, count: int) -> Tensor:
    """(count, tiles) orders, the given one first, each as far from those before it as any of a thousand drawn."""
    pool = Draws(0, range(1000), "jigsaw").uniform(tiles, purpose="orders").argsort(1)  # (1000, tiles)
    chosen = [torch.arange(tiles)]
    nearest = torch.full((len(pool),), tiles)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (pool != chosen[-1]).sum(1))
        chosen.append(pool[int(nearest.argmax())])
    return torch.stack(chosen)
