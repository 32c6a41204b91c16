"""The first layer of a vision transformer cuts the image into patches: its slope is one product, a patch at a time.

On a processor torch takes the general way back through a convolution, which for three colours is three to nine times
slower. Forward the convolution stays what it is, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COLOURS = 4  # and fewer: with more channels torch's own way is no slower


def cuts_patches(module: Any) -> bool:
    """Whether it is a convolution of an image whose patches touch and do not overlap."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and type(module)._conv_forward is nn.Conv2d._conv_forward
        and module.in_channels <= COLOURS
        and module.kernel_size == module.stride != (1, 1)
        and module.padding in ((0, 0), "valid")
        and module.dilation == (1, 1)
        and module.groups == 1
    )


def patchwise(convolution: Any) -> Callable[[Tensor], Tensor]:
    """The convolution's forward pass, with another way back to the image."""

    def forward(images: Tensor) -> Tensor:
        weight, bias = convolution.weight, convolution.bias
        learns = weight.requires_grad or (bias is not None and bias.requires_grad)
        if learns or images.ndim != 4 or images.dtype != weight.dtype or torch.is_autocast_enabled("cpu"):
            return type(convolution).forward(convolution, images)
        return _Patches.apply(images, weight, bias, convolution.stride)

    return forward


class _Patches(torch.autograd.Function):
    @staticmethod
    def forward(images: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int]) -> Tensor:
        return F.conv2d(images, weight, bias, stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:
        (weight,), (slope,), (n, c, height, width) = ctx.saved_tensors, slopes, ctx.shape
        (rows, columns), (tall, wide) = slope.shape[2:], weight.shape[2:]
        patches = slope.flatten(2).transpose(1, 2) @ weight.flatten(1)  # (N, rows * columns, C * tall * wide)
        image = patches.view(n, rows, columns, c, tall, wide).permute(0, 3, 1, 4, 2, 5)
        image = image.reshape(n, c, rows * tall, columns * wide)
        # What is left over at the edges is in no patch.
        return F.pad(image, (0, width - columns * wide, 0, height - rows * tall)), None, None, None
