"""Images read at places between their pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def sample(
    images: Tensor,
    rows: Tensor,
    columns: Tensor,
    border: Literal["mirror", "reflect"],
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Tensor:
    """The images at pixel coordinates `rows`, `columns`, (N or 1, h, w) each: (N, C, h, w)."""
    height, width = images.shape[2:]
    mirror = border == "mirror"

    def scaled(places: Tensor, length: int) -> Tensor:
        if mirror:
            return (places * (2 / max(length - 1, 1))).sub_(1)
        return (places * (2 / length)).add_(1 / length - 1)

    grid = torch.stack([scaled(columns, width), scaled(rows, height)], -1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid.to(images), mode=mode, padding_mode="reflection", align_corners=mirror)


def folded(places: Tensor, length: int) -> Tensor:
    """Coordinates beyond the edges brought back inside, the edge pixel counted twice ("reflect")."""
    around = torch.remainder(places + 0.5, 2 * length)
    return (torch.minimum(around, 2 * length - around) - 0.5).clamp(0, length - 1)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The middle of the images enlarged `factor` times, corner pixels on corner pixels, cut to their size."""
    height, width = images.shape[2:]
    rows, columns = middle(height, factor), middle(width, factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    return enlarged(images[:, :, top : top + rows, left : left + columns], factor, height, width)


def middle(length: int, factor: float) -> int:
    """How many pixels in the middle of an axis are enough to fill it when they are enlarged."""
    return math.ceil(length / factor)


def enlarged(images: Tensor, factor: float, height: int, width: int) -> Tensor:
    """Such middles enlarged, and cut to (N, C, height, width)."""
    tall, wide = (round(length * factor) for length in images.shape[2:])
    large = F.interpolate(images, size=(tall, wide), mode="bilinear", align_corners=True)
    above, aside = (tall - height) // 2, (wide - width) // 2
    return large[:, :, above : above + height, aside : aside + width]
