"""What attackers use beside the exact gradient: no clipping on the way back, and only slow changes over the image."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.defences.stand_ins import StandIn
from vallum.models.model import Model


class _OpenClamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return images.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def open_clamp(images: Tensor) -> Tensor:
    """Clips to [0, 1]; on the way back as if it did not, so that saturated pixels have a gradient too."""
    return _OpenClamp.apply(images)


class LowFrequency(StandIn):
    """The same answers; on the way back each pixel gets the mean gradient of its cell, `cell` pixels wide.

    Noise averages out over a patch and a change that is the same all over it does not, so slow perturbations pass a
    denoiser best. What climbs along this gradient moves whole cells at a time.
    """

    def __init__(self, model: Model, cell: int = 4) -> None:
        super().__init__(model)
        self.cell = cell

    def forward(self, images: Tensor) -> Tensor:
        return self.model(_Slow.apply(images, self.cell))


class _Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, cell: int) -> Tensor:
        ctx.cell = cell
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        height, width = gradient.shape[-2:]
        mean = F.avg_pool2d(gradient, ctx.cell, ceil_mode=True, count_include_pad=False)
        return mean.repeat_interleave(ctx.cell, 2).repeat_interleave(ctx.cell, 3)[..., :height, :width], None
