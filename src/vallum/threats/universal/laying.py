"""How one perturbation comes upon many images: added to each, as it is or as a tile, or pasted over a part of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.threats.placement import Placement, paste

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
        return self.laid(images, delta, keys, purpose)[0]

    def laid(self, images: Tensor, delta: Tensor, keys: Sequence[int] | Tensor, purpose: str) -> tuple[Tensor, Tensor]:
        """The images with it, and where it lies, (N, 1, H, W)."""
        if not len(images) or not delta.numel():
            return images.clone(), torch.zeros_like(images[:, :1])
        size = (delta.shape[2], delta.shape[3])
        if size[0] > images.shape[2] or size[1] > images.shape[3]:
            raise UserError(
                f"a patch of {size[0]}x{size[1]} pixels", f"the images have {images.shape[2]}x{images.shape[3]}"
            )
        return paste(images, delta + 0.5, self._placement(images, size, keys, purpose))

    def _placement(
        self, images: Tensor, size: tuple[int, int], keys: Sequence[int] | Tensor, purpose: str
    ) -> Placement:
        if self.place == "anywhere":
            return Placement.drawn(Draws(self.seed, keys, f"universal patch/{purpose}"), images, size)
        part = 1.0 if self.place == "corner" else 0.5
        middle = [int((whole - own) * part) + own / 2 for whole, own in zip(images.shape[2:], size, strict=True)]
        return Placement.at(*(images.new_full((len(images),), value) for value in middle))
