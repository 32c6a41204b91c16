"""Where a patch lies in an image, and how it is put there: one affine map per image, for the patch and for its shape.

A patch is (1, C, h, w), or one per image (N, C, h, w); its shape, if it is no full rectangle, (1 or N, 1, h, w) in
[0, 1]. Gradients flow to patch, shape, placement and images.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.threats.corruptions.sampling import sample_exactly


@dataclass(frozen=True)
class Placement:
    """For each image, (N,) each: the row and column of the patch's middle, its rotation, how many times it is enlarged.

    Rows and columns are those of pixel edges: 0 is the image's upper edge, H its lower one.
    """

    row: Tensor
    column: Tensor
    degrees: Tensor  # anticlockwise
    scale: Tensor

    @classmethod
    def at(cls, row: Tensor, column: Tensor) -> Placement:
        """Upright and as large as it is."""
        return cls(row, column, torch.zeros_like(row), torch.ones_like(row))

    @classmethod
    def centred(cls, images: Tensor) -> Placement:
        height, width = images.shape[2:]
        return cls.at(images.new_full((len(images),), height / 2), images.new_full((len(images),), width / 2))

    @classmethod
    def drawn(cls, draws: Draws, images: Tensor, patch: tuple[int, int], whole_pixels: bool = True) -> Placement:
        """Anywhere inside each image; on whole pixels nothing of an upright patch is blurred."""
        place = draws.uniform(2, purpose="place", device=images.device).to(images.dtype)  # (N, 2)
        row, column = (
            (place[:, axis] * (size - own + 1)).floor() if whole_pixels else place[:, axis] * (size - own)
            for axis, (size, own) in enumerate(zip(images.shape[2:], patch, strict=True))
        )
        return cls.at(row + patch[0] / 2, column + patch[1] / 2)

    def jittered(
        self, draws: Draws, shift: float = 0.0, rotation: float = 0.0, scale: tuple[float, float] = (1.0, 1.0)
    ) -> Placement:
        """Moved by up to `shift` pixels, turned by up to `rotation` degrees, enlarged by a factor in `scale`."""
        drawn = draws.uniform(4, purpose="jitter", device=self.row.device).to(self.row.dtype)
        down, across, turn, grow = drawn.unbind(1)
        return Placement(
            self.row + (2 * down - 1) * shift,
            self.column + (2 * across - 1) * shift,
            self.degrees + (2 * turn - 1) * rotation,
            self.scale * (scale[0] + grow * (scale[1] - scale[0])),
        )

    def inside(self, images: Tensor, patch: tuple[int, int]) -> Placement:
        """Moved back as far as it needs to lie in the image with all its corners."""
        radians = self.degrees * (math.pi / 180)
        cos, sin = radians.cos().abs(), radians.sin().abs()
        high = (patch[0] * cos + patch[1] * sin) * self.scale / 2  # half of what it takes up, each way
        wide = (patch[1] * cos + patch[0] * sin) * self.scale / 2
        row = torch.maximum(torch.minimum(self.row, images.shape[2] - high), high)
        column = torch.maximum(torch.minimum(self.column, images.shape[3] - wide), wide)
        return dataclasses.replace(self, row=row, column=column)

    def take(self, which: Tensor) -> Placement:
        return Placement(self.row[which], self.column[which], self.degrees[which], self.scale[which])

    def matrix(self, patch: tuple[int, int]) -> Tensor:
        """(N, 2, 3): takes (column, row, 1) of an image's pixel, from 0, to (column, row) of the patch's."""
        radians = self.degrees * (math.pi / 180)
        cos, sin = radians.cos() / self.scale, radians.sin() / self.scale
        # From the middle of the patch; pixel 0 has its centre half a pixel from the edge.
        right = torch.stack([cos, -sin, (0.5 - self.column) * cos - (0.5 - self.row) * sin + (patch[1] - 1) / 2], 1)
        down = torch.stack([sin, cos, (0.5 - self.column) * sin + (0.5 - self.row) * cos + (patch[0] - 1) / 2], 1)
        return torch.stack([right, down], 1)


def paste(images: Tensor, patch: Tensor, place: Placement, shape: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The images with the patch over them, and how far it covers each pixel: half a pixel of it shows half of each.

    >>> images, patch = torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 1, 1)
    >>> pasted, there = paste(images, patch, Placement.centred(images))
    >>> pasted[0, 0].tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    shown, there = warped(patch, shape, place, images)
    return (images * (1 - there) + shown).clamp(0, 1), there


def warped(patch: Tensor, shape: Tensor | None, place: Placement, images: Tensor) -> tuple[Tensor, Tensor]:
    """The patch as it lies over the images, black around it, and how far it covers each pixel: (N, C or 1, H, W)."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None]
    columns = torch.arange(width, device=images.device, dtype=images.dtype)[None]
    a = place.matrix((patch.shape[2], patch.shape[3])).to(images)[:, :, :, None, None]  # (N, 2, 3, 1, 1)
    x, y = (a[:, axis, 0] * columns + a[:, axis, 1] * rows + a[:, axis, 2] for axis in (0, 1))  # (N, H, W)
    shape = torch.ones_like(patch[:, :1]) if shape is None else shape.to(patch).expand(len(patch), -1, -1, -1)
    layers = torch.cat([patch * shape, shape], 1).to(images).expand(len(images), -1, -1, -1)
    read = sample_exactly(layers, y, x)
    return read[:, :-1], read[:, -1:]


def covered(labels: Tensor, there: Tensor) -> Tensor:
    """Masks in which what a patch covers is ignored: nobody can tell what is beneath it. Other labels stay."""
    return labels if labels.ndim == 1 else labels.masked_fill(there[:, 0] > 0, IGNORE)


def side_for(share: float, images: Tensor, enlarged: float | None = None) -> int:
    """The side of the largest square that never touches more than this share of an image's pixels.

    None: it lies upright on whole pixels. Otherwise it may be turned, and become so many times larger: its blurred
    edges then reach half of its pixels farther, and a convex figure holds no more than area + half perimeter + 1.
    """
    pixels = math.sqrt(share * images.shape[2] * images.shape[3])
    side = pixels if enlarged is None else (pixels - 1) / enlarged - 1
    side = min(side + 1e-9, *images.shape[2:])
    if side < 1:
        raise UserError(
            f"a patch of {share:g} of an image of {images.shape[2]} by {images.shape[3]} pixels",
            "its square would hold no pixel",
            "give it a larger share, or jitter it less",
        )
    return int(side)


class Area:
    """The share of an image's pixels that differ, in any channel."""

    name = "area"

    def length(self, delta: Tensor) -> Tensor:
        return (delta != 0).any(1).flatten(1).double().mean(1)


def window_sums(values: Tensor, side: int) -> Tensor:
    """(N, H - side + 1, W - side + 1): the sum of (N, H, W) over each square of this side."""
    return F.avg_pool2d(values[:, None], side, 1)[:, 0] * side**2
