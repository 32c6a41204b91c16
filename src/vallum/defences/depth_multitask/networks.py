"""What is trained beside the segmenter: a decoder that sees depth, and a network that sees how the camera moved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.depth_multitask.geometry import inverse, rigid
from vallum.models.segmenter import Decoder

TURN, STEP = 0.09, 0.3  # what an output of 1 of the pose network means: radians, and depths of the scene's unit


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.factor, None


def scale_gradient(values: Tensor, factor: float) -> Tensor:
    """`values` as they are; what flows back through them is multiplied by `factor`.

    >>> x = torch.ones(2, requires_grad=True)
    >>> (scale_gradient(x, 0.25) * 3).sum().backward()
    >>> x.grad
    tensor([0.7500, 0.7500])
    """
    return _Scaled.apply(values, factor)


class DepthDecoder(nn.Module):
    """Features to maps at each of the encoder's finest `scales` sizes: one of depth, or as many as a picture has."""

    def __init__(self, widths: Sequence[int], scales: int, maps: int = 1) -> None:
        super().__init__()
        self.decoder = Decoder(widths, narrowest=16)
        self.heads = nn.ModuleList(nn.Conv2d(width, maps, 3, padding=1) for width in self.decoder.widths[:scales])

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(N, h, w), or (N, maps, h, w) where there are several; the finest first."""
        found = [head(level) for head, level in zip(self.heads, self.decoder.levels(features), strict=False)]
        return [maps[:, 0] if maps.shape[1] == 1 else maps for maps in found]


class PoseNet(nn.Module):
    """From two frames in the order of time to the motion between them."""

    def __init__(self, channels: int = 3, width: int = 16) -> None:
        super().__init__()
        widths = [2 * channels, width, 2 * width, 4 * width, 8 * width, 8 * width]
        layers: list[nn.Module] = []
        for number, (narrow, wide) in enumerate(pairwise(widths)):
            kernel = 5 if number == 0 else 3
            layers += [nn.Conv2d(narrow, wide, kernel, 2, kernel // 2), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], 6, 1))
        final = self.body[-1]
        assert isinstance(final, nn.Conv2d)
        nn.init.normal_(final.weight, std=1e-3)
        nn.init.zeros_(final.bias if final.bias is not None else torch.empty(0))

    def forward(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(N, 4, 4): from the earlier camera's coordinates to the later one's."""
        return self._between(torch.cat([earlier, later], 1))

    def _between(self, pairs: Tensor) -> Tensor:
        frames = pairs.contiguous(memory_format=torch.channels_last)  # as convolutions like it
        found = self.body(frames * 2 - 1).float().mean((2, 3))
        return rigid(found[:, :3] * TURN, found[:, 3:] * STEP)

    def both(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """From the middle frame of each three (N, 3, C, H, W) to the one before and to the one after."""
        motion = self._between(torch.cat([frames[:, :2].flatten(1, 2), frames[:, 1:].flatten(1, 2)]))
        to_middle, to_after = motion.chunk(2)
        return inverse(to_middle), to_after


def inverse_depth(found: Tensor, form: str) -> Tensor:
    """From the decoder's output to one over the depth, positive, (N, H, W).

    "sigmoid" is the published form: depths from 0.1 to 100. "normalised" has the mean 0.1 in every image: no common
    factor of depth and motion is left that could drift to a bound, as it did from scratch. In full precision, whatever
    the decoder computes in: a pixel's place hangs on it.
    """
    if form == "sigmoid":
        return 0.01 + (10 - 0.01) * found.float().sigmoid()
    positive = F.softplus(found.float()) + 1e-3
    return 0.1 * positive / positive.mean((1, 2), keepdim=True)


def depth_of(inverted: Tensor) -> Tensor:
    """At most 200."""
    return 1 / inverted.clamp_min(0.005)
