"""The losses of what is learnt beside segmentation: how well a frame explains its neighbours, or a picture itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.defences.depth_multitask.geometry import View, in_full
from vallum.defences.depth_multitask.networks import depth_of, inverse_depth
from vallum.defences.depth_multitask.photometric import Target, best_explained, difference, smoothness


@in_full
def depth_loss(
    frames: Tensor,  # (N, 3, C, H, W)
    maps: Sequence[Tensor],  # (N, h, w) of the middle frames, the finest first
    motions: Sequence[Tensor],  # (N, 4, 4) from the middle frame to the one before and to the one after
    intrinsics: Tensor,
    form: str,
    smooth: float,
    masked: bool,
) -> Tensor:
    """The mean over the scales; every scale is judged at full size, as holes in plain areas else seem deep."""
    before, middle, after = frames.unbind(1)
    target, size = Target.of(middle), middle.shape[-2:]
    views = [View.of(motion, intrinsics, size) for motion in motions]
    still = None
    if masked:
        still = torch.minimum(difference(before, target), difference(after, target))
        still = still + 1e-5 * torch.rand_like(still)  # where all is equal, nothing is learnt
    total: Tensor = torch.zeros((), device=frames.device)
    for scale, found in enumerate(maps):
        inverted = inverse_depth(found, form)
        depth = depth_of(at_size(inverted, size))
        warped = [view.of_image(source, depth) for view, source in zip(views, (before, after), strict=True)]
        error, _ = best_explained(target, warped, still)
        image = F.adaptive_avg_pool2d(middle, (found.shape[-2], found.shape[-1]))
        total = total + error.mean() + smooth / 2**scale * smoothness(inverted, image).mean()
    return total / len(maps)


@in_full
def picture_loss(pictures: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """How far maps (N, C, h, w), or (N, h, w) of grey, are from the pictures in the same measure, over scales."""
    target, size = Target.of(pictures), pictures.shape[-2:]
    several = [found if found.ndim == 4 else found[:, None] for found in maps]  # a grey picture has one
    drawn = [F.interpolate(found.float().sigmoid(), size, mode="bilinear", align_corners=False) for found in several]
    return torch.stack([difference(picture, target).mean() for picture in drawn]).mean()


def strangers(frames: Tensor) -> Tensor:
    """Each middle frame (N, 3, C, H, W) between frames of other clips: nothing is left that depth would explain."""
    before, middle, after = frames.unbind(1)
    return torch.stack([before.roll(1, 0), middle, after.roll(-1, 0)], 1)


def at_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (N, h, w) at another size."""
    return F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
