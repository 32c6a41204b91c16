"""Fog and focus in a scene whose depth is known: what is far away fades, what is out of focus blurs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.threats.corruptions.base import working
from vallum.threats.corruptions.filters import correlate, disc
from vallum.threats.corruptions.fog import clouds


def _depths(images: Tensor, depth: Tensor) -> Tensor:
    """(N, 1, H, W), positive; infinity is the sky."""
    depth = depth[:, None] if depth.ndim == 3 else depth
    if depth.shape != images[:, :1].shape:
        raise UserError(
            f"depth has shape {tuple(depth.shape)}", f"{tuple(images[:, :1].shape)} is needed: one per pixel"
        )
    if not bool((depth > 0).all()):
        raise UserError("some depths are not positive", "a distance is, the sky's is infinite", "replace those of 0")
    return depth.to(working(images))


def fog_by_depth(
    images: Tensor,
    depth: Tensor,
    visibility: float = 50.0,
    airlight: float = 0.9,
    unevenness: float = 0.0,
    seed: int = 0,
    keys: Sequence[int] | Tensor | None = None,
) -> Tensor:
    """Koschmieder's law (1924): light from a distance d fades by exp(-b d), and the fog's own light takes its place.

    `depth` is (N, H, W) or (N, 1, H, W), in the unit of `visibility`: the distance at which 5 % of the contrast is
    left. `airlight` is the fog's own grey. `unevenness`, 0 to 1, makes the fog thicker here and thinner there, by a
    cloud drawn for each image.

    >>> near_and_far = torch.tensor([1.0, 50.0]).view(1, 1, 1, 2)
    >>> fog_by_depth(torch.zeros(1, 3, 1, 2), near_and_far, visibility=50.0, airlight=1.0)[0, 0, 0]
    tensor([0.0582, 0.9500])
    """
    if not (visibility > 0 and 0 <= unevenness <= 1):
        raise UserError(f"visibility={visibility}, unevenness={unevenness}", "above 0, and between 0 and 1")
    sharp = working(images)
    attenuation = torch.full_like(sharp[:, :1], -math.log(0.05) / visibility)
    if unevenness:
        draws = Draws(seed, range(len(images)) if keys is None else keys, "fog by depth")
        attenuation = attenuation * (1 + unevenness * (2 * clouds(sharp, draws, decay=2.0) - 1))
    left = torch.exp(-attenuation * _depths(images, depth))
    return (sharp * left + airlight * (1 - left)).clamp(0, 1).to(images.dtype)


def defocus_by_depth(images: Tensor, depth: Tensor, focus: float, blur: float, levels: int = 8) -> Tensor:
    """A thin lens focused at the distance `focus`: a point at d becomes a disc of radius `blur` * |1 - focus / d|.

    `blur` is in pixels, the radius for what is infinitely far; a radius is at most twice that. Each pixel is mixed
    from two of `levels` blurred images whose radii enclose its own, so near things do not spread over far ones.

    >>> sharp = torch.rand(1, 3, 16, 16)
    >>> bool(torch.allclose(defocus_by_depth(sharp, torch.full((1, 16, 16), 7.0), focus=7.0, blur=3.0), sharp))
    True
    """
    if not (focus > 0 and blur >= 0 and levels >= 2):
        raise UserError(f"focus={focus}, blur={blur}, levels={levels}", "above 0, at least 0, and at least 2")
    sharp = working(images)
    radius = (blur * (1 - focus / _depths(images, depth)).abs()).clamp_max(2 * blur)  # (N, 1, H, W)
    top = max(float(radius.max()), 1e-6)
    place = radius / top * (levels - 1)
    mixed = torch.zeros_like(sharp)
    for level in range(levels):
        share = (1 - (place - level).abs()).clamp_min(0)
        if bool(share.any()):
            size = top * level / (levels - 1)
            mixed = mixed + share * (sharp if level == 0 else correlate(sharp, disc(size, 0.5)))
    return mixed.clamp(0, 1).to(images.dtype)
