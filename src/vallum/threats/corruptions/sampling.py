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
        return 2 * places / max(length - 1, 1) - 1 if mirror else (2 * places + 1) / length - 1

    grid = torch.stack([scaled(columns, width), scaled(rows, height)], -1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid.to(images), mode=mode, padding_mode="reflection", align_corners=mirror)


def folded(places: Tensor, length: int) -> Tensor:
    """Coordinates beyond the edges brought back inside, the edge pixel counted twice ("reflect")."""
    around = torch.remainder(places + 0.5, 2 * length)
    return (torch.minimum(around, 2 * length - around) - 0.5).clamp(0, length - 1)


def zoomed(images: Tensor, factor: float) -> Tensor:
    """The middle of the images enlarged `factor` times, corner pixels on corner pixels, cut to their size."""

    def places(length: int) -> Tensor:
        cut = math.ceil(length / factor)
        grown = round(cut * factor)
        first, trim = (length - cut) // 2, (grown - length) // 2
        step = (cut - 1) / (grown - 1) if grown > 1 else 0.0
        return (torch.arange(length, dtype=torch.float64, device=images.device) + trim) * step + first

    rows, columns = torch.meshgrid(places(images.shape[2]), places(images.shape[3]), indexing="ij")
    return sample(images, rows[None].to(images), columns[None].to(images), "mirror")
