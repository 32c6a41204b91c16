"""From depth and camera motion to where each pixel lies in another frame.

The camera looks along z, x to the right, y down; pixels' centres lie at whole numbers; depth is along z.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def in_full(function: Callable[P, R]) -> Callable[P, R]:
    """In full precision even within autocast: where a pixel lies hangs on digits that bfloat16 has not."""

    @functools.wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        devices = {value.device.type for value in args if isinstance(value, Tensor)}
        with torch.autocast(devices.pop() if devices else "cpu", enabled=False):
            return function(*args, **kwargs)

    return exact


@dataclass(frozen=True)
class View:
    """Where another camera sees what this one's pixels show.

    A pixel's point at depth d lies at d * slope + start for the other camera, along x and y in units such that, divided
    by the depth there and moved by `middle`, -1 and 1 are the middles of its outermost pixels.
    """

    slope: Tensor  # (N, 3, H, W)
    start: Tensor  # (N, 3, 1, 1)
    middle: Tensor  # (N, 1, 1, 2)

    @classmethod
    def of(cls, motion: Tensor, intrinsics: Tensor, size: Sequence[int]) -> View:
        """`motion` (N, 4, 4) leads from this camera's coordinates to the other's."""
        height, width = size
        focal, middle = intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2]  # (N, 2)
        right = (torch.arange(width, device=motion.device) - middle[:, :1]) / focal[:, :1]  # (N, W)
        down = (torch.arange(height, device=motion.device) - middle[:, 1:]) / focal[:, 1:]  # (N, H)
        unit = 2 / torch.tensor([width - 1, height - 1], device=motion.device, dtype=motion.dtype)
        scaled = motion[:, :3] * torch.cat([focal * unit, torch.ones_like(focal[:, :1])], 1)[:, :, None]  # (N, 3, 4)
        along, up, ahead, start = scaled[..., None].unbind(2)  # (N, 3, 1)
        slope = (up * down[:, None] + ahead)[..., None] + (along * right[:, None])[:, :, None]
        return cls(slope, start[..., None], (middle * unit - 1)[:, None, None])

    def grid(self, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Of pixels with this depth (N, H, W): places (N, H, W, 2) as grid_sample has them, and depths there."""
        flat, far = _Appear.apply(self.slope, self.start, depth)
        return flat.permute(0, 2, 3, 1) + self.middle, far

    def of_image(self, image: Tensor, depth: Tensor) -> Tensor:
        """The other camera's image (N, C, H, W) as this one would see it."""
        return _sampled(image, self.grid(depth)[0])


class _Appear(torch.autograd.Function):
    """Where points lie beside the other camera's axis, over their depth (N, 2, H, W); and that depth, which is only
    looked at. The gradient is written out: half the passes of what autograd would record."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, start: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        there = torch.addcmul(start, slope, depth[:, None])  # (N, 3, H, W)
        far = there[:, 2].clone()
        safe = far.clamp_min(1e-3)[:, None]  # behind the camera nothing appears; such pixels are told by their depth
        flat = there[:, :2] / safe
        ctx.save_for_backward(slope, depth, flat, safe)
        ctx.mark_non_differentiable(far)
        return flat, far

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slope, depth, flat, safe = ctx.saved_tensors
        by = torch.empty_like(slope)
        torch.div(gradients[0], safe, out=by[:, :2])
        torch.sum(by[:, :2] * flat, 1, out=by[:, 2])
        by[:, 2].mul_((safe[:, 0] > 1e-3).to(by.dtype).neg_())
        return by * depth[:, None], by.sum((2, 3), keepdim=True), (by * slope).sum(1)


def _sampled(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


@in_full
def warp(image: Tensor, depth: Tensor, motion: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Another frame (N, C, H, W) as this camera would see it, and where (N, H, W) that is known.

    `depth` (N, H, W) is this frame's; `motion` (N, 4, 4) leads from this camera's coordinates to the other's.
    """
    height, width = depth.shape[-2:]
    grid, far = View.of(motion, intrinsics, (height, width)).grid(depth)
    limit = 1 + 2e-3 / torch.tensor([width - 1, height - 1], device=grid.device)  # of a pixel 1e-3, for rounding
    return _sampled(image, grid), (grid.abs() < limit).all(-1) & (far > 1e-3)


@in_full
def rigid(turn: Tensor, step: Tensor) -> Tensor:
    """Motions (N, 4, 4) that turn about `turn` (N, 3), whose length is the angle, and then go `step` (N, 3).

    >>> rigid(torch.tensor([[0, torch.pi / 2, 0]]), torch.zeros(1, 3))[0, :3, :3].round().abs().tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    squared = turn.square().sum(1)[:, None, None]
    angle = (squared + 1e-16).sqrt()
    # Of the two quotients no digit is left where the angle is small; there the first terms of their series are exact.
    small = squared < 1e-4
    first = torch.where(small, 1 - squared / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - squared / 24, (1 - angle.cos()) / (squared + 1e-16))
    x, y, z = turn.unbind(1)
    nought = torch.zeros_like(x)
    cross = torch.stack([nought, -z, y, z, nought, -x, -y, x, nought], 1).view(-1, 3, 3)
    rotation = torch.eye(3, device=turn.device) + first * cross + second * (cross @ cross)
    upper = torch.cat([rotation, step[:, :, None]], 2)  # (N, 3, 4)
    lower = torch.tensor([[[0.0, 0, 0, 1]]], device=turn.device).expand(len(turn), 1, 4)
    return torch.cat([upper, lower], 1)


@in_full
def inverse(motion: Tensor) -> Tensor:
    """The way back, (N, 4, 4)."""
    back = motion[:, :3, :3].transpose(1, 2)
    upper = torch.cat([back, -back @ motion[:, :3, 3:]], 2)
    return torch.cat([upper, motion[:, 3:]], 1)


def pinhole(focal: Tensor, size: Sequence[int]) -> Tensor:
    """Intrinsics (3, 3) for frames of `size` (H, W) from focal lengths (2,), across and down, in widths of the frame.

    >>> pinhole(torch.tensor([0.5, 0.5]), (4, 8)).tolist()
    [[4.0, 0.0, 3.5], [0.0, 4.0, 1.5], [0.0, 0.0, 1.0]]
    """
    height, width = size
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=focal.device)
    upper = torch.cat([torch.diag(focal * width), middle[:, None]], 1)
    return torch.cat([upper, torch.tensor([[0.0, 0, 1]], device=focal.device)])


def flipped(intrinsics: Tensor, width: int) -> Tensor:
    """Of the camera that sees mirrored frames: its middle is mirrored too."""
    mirrored = intrinsics.clone()
    mirrored[:, 0, 2] = width - 1 - intrinsics[:, 0, 2]
    return mirrored
