"""How one perturbation comes upon many images: added to each, as it is or as a tile, or pasted over a part of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws

# (images, perturbation (1 or N, C, h, w), keys, what its draws are for) -> images
Lay = Callable[[Tensor, Tensor, Sequence[int] | Tensor, str], Tensor]
Place = Literal["anywhere", "centre", "corner"]


def add(images: Tensor, delta: Tensor, keys: Sequence[int] | Tensor, purpose: str) -> Tensor:
    """The images with it, in [0, 1]."""
    return (images + repeated(delta, *images.shape[-2:])).clamp(0, 1)


def repeated(tiles: Tensor, height: int, width: int) -> Tensor:
    """(F, C, h, w) laid side by side until they cover height and width.

    >>> repeated(torch.arange(4.0).view(1, 1, 2, 2), 2, 3)[0, 0].tolist()
    [[0.0, 1.0, 0.0], [2.0, 3.0, 2.0]]
    """
    if tiles.shape[-2:] == (height, width):
        return tiles
    down, right = -(-height // tiles.shape[-2]), -(-width // tiles.shape[-1])
    return tiles.repeat(1, 1, down, right)[..., :height, :width]


@dataclass(frozen=True)
class Paste:
    """Instead of what was there, upright and on whole pixels; the patch is said as a difference to middle grey.

    >>> images = torch.zeros(1, 1, 3, 3)
    >>> Paste("corner", 0)(images, torch.full((1, 1, 2, 2), 0.5), [0], "")[0, 0].tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """

    place: Place
    seed: int

    def __call__(self, images: Tensor, delta: Tensor, keys: Sequence[int] | Tensor, purpose: str) -> Tensor:
        if not len(images):
            return images.clone()
        height, width = images.shape[-2:]
        high, wide = delta.shape[-2:]
        if high > height or wide > width:
            raise UserError(f"a patch of {high}x{wide} pixels", f"the images have {height}x{width}")
        top, left = self._corners(images, (height - high, width - wide), keys, purpose)
        down = torch.arange(height, device=images.device) - top[:, None]  # (N, H) rows of the patch
        across = torch.arange(width, device=images.device) - left[:, None]
        there = ((down >= 0) & (down < high))[:, :, None] & ((across >= 0) & (across < wide))[:, None]  # (N, H, W)
        rows, columns = down.clamp(0, high - 1)[:, :, None], across.clamp(0, wide - 1)[:, None]
        which = torch.arange(len(images), device=images.device) % len(delta)
        shown = (delta + 0.5)[which[:, None, None], :, rows, columns].permute(0, 3, 1, 2)  # (N, C, H, W)
        return torch.where(there[:, None], shown.clamp(0, 1), images)

    def _corners(
        self, images: Tensor, room: tuple[int, int], keys: Sequence[int] | Tensor, purpose: str
    ) -> tuple[Tensor, Tensor]:
        """(N,) each: the first row and column that it covers."""
        if self.place == "anywhere":
            draws = Draws(self.seed, keys, f"universal patch/{purpose}")
            top, left = (draws.integers(free + 1, purpose=f"place {axis}") for axis, free in enumerate(room))
            return top.to(images.device), left.to(images.device)
        part = 1.0 if self.place == "corner" else 0.5
        top, left = (torch.full((len(images),), int(free * part), device=images.device) for free in room)
        return top, left
