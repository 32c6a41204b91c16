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


def sample_exactly(layers: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The layers (N, C, h, w) at pixel coordinates (N, H, W), nothing beyond the edges; whole ones copy."""
    (height, width), flat = layers.shape[2:], layers.flatten(2)
    # The places of a rotation by nothing are whole but for rounding, and shall not read a trace of their neighbours.
    fine = 2.0**-8 if layers.dtype in (torch.float16, torch.bfloat16) else 2.0**-12
    rows, columns = (places + ((places / fine).round() * fine - places).detach() for places in (rows, columns))
    top, left = rows.floor(), columns.floor()
    total = torch.zeros(*layers.shape[:2], *rows.shape[1:], dtype=layers.dtype, device=layers.device)
    for down in (0, 1):
        for across in (0, 1):
            row, column = top + down, left + across
            weight = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
            there = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            place = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
            value = flat.gather(2, place.flatten(1)[:, None].expand(-1, layers.shape[1], -1))
            total = total + value.view_as(total) * (weight * there)[:, None]
    return total


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
