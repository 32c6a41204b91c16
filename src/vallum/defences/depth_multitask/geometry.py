"""From depth and camera motion to where each pixel lies in another frame.

The camera looks along z, x to the right, y down; pixels' centres lie at whole numbers; depth is along z.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def back_project(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """The points (N, 3, H, W) that pixels with this depth (N, H, W) show, in the camera's coordinates.

    >>> intrinsics = torch.tensor([[[2.0, 0, 1], [0, 2, 0], [0, 0, 1]]])
    >>> back_project(torch.full((1, 1, 3), 4.0), intrinsics)[0, :, 0].T.tolist()
    [[-2.0, 0.0, 4.0], [0.0, 0.0, 4.0], [2.0, 0.0, 4.0]]
    """
    height, width = depth.shape[-2:]
    fx, fy, cx, cy = _numbers(intrinsics)
    across = (torch.arange(width, device=depth.device) - cx[:, None]) / fx[:, None]  # (N, W)
    down = (torch.arange(height, device=depth.device) - cy[:, None]) / fy[:, None]  # (N, H)
    return torch.stack([across[:, None, :] * depth, down[:, :, None] * depth, depth], 1)


def project(points: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where points (N, 3, H, W) appear: columns and rows in pixels and depths, (N, H, W) each."""
    fx, fy, cx, cy = (value[:, None, None] for value in _numbers(intrinsics))
    x, y, depth = points.unbind(1)
    safe = depth.clamp_min(1e-3)  # behind the camera nothing appears; such pixels are told by their depth
    return fx * x / safe + cx, fy * y / safe + cy, depth


def move(points: Tensor, motion: Tensor) -> Tensor:
    """Points (N, 3, H, W) by rigid motions (N, 4, 4)."""
    turned = (motion[:, :3, :3] @ points.flatten(2)).view_as(points)
    return turned + motion[:, :3, 3, None, None]


def warp(image: Tensor, depth: Tensor, motion: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Another frame (N, C, H, W) as this camera would see it, and where (N, H, W) that is known.

    `depth` (N, H, W) is this frame's; `motion` (N, 4, 4) leads from this camera's coordinates to the other's.
    """
    height, width = depth.shape[-2:]
    across, down, far = project(move(back_project(depth, intrinsics), motion), intrinsics)
    grid = torch.stack([across * (2 / (width - 1)) - 1, down * (2 / (height - 1)) - 1], -1)
    # A grid in which -1 and 1 are the middles of the outermost pixels is what align_corners=True reads.
    moved = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
    edge = 1e-3  # of a pixel, for rounding
    inside = (across > -edge) & (across < width - 1 + edge) & (down > -edge) & (down < height - 1 + edge)
    return moved, inside & (far > 1e-3)


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


def _numbers(intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 0, 2], intrinsics[:, 1, 2]
