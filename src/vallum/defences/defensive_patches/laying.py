"""Patches laid over images: on their pixels where they lie upright, through one matrix for patch and mask elsewhere.

A patch has `fineness` pixels for each pixel of the images that it was made for, each way: as fine as it will be
printed. What a camera's pixel sees is the mean of those that fall into it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.threats.placement import Placement

SUBSAMPLES = 2  # at most so many points of a pixel are looked at, each way, where a patch is turned


def lay(
    images: Tensor, patches: Tensor, mask: Tensor, pixels_per_pixel: float, placed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, W) with a patch (N, C, h, w) over each, and how far it covers each pixel: (N or 1, 1, H, W).

    `mask` is (h, w). `placed`, (N, 3, 3), takes (right, down, 1) in pixels from the middle of an image to the place
    of the upright patch that is seen there; None: upright in the middle. Gradients flow to all.

    >>> shown, there = lay(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 2, 2), torch.ones(2, 2), 1.0)
    >>> shown[0, 0].tolist()[1], float(there.sum())
    ([0.0, 1.0, 1.0, 0.0], 4.0)
    """
    coarse = round(pixels_per_pixel)
    if placed is None and coarse == pixels_per_pixel and _on_whole_pixels(images, mask, coarse):
        layers = torch.cat([patches * mask, mask.expand(len(patches), 1, -1, -1)], 1)
        layers = F.avg_pool2d(layers, coarse) if coarse > 1 else layers
        above, left = ((images.shape[axis + 2] - layers.shape[axis + 2]) // 2 for axis in (0, 1))
        below, right = (images.shape[2] - layers.shape[2] - above, images.shape[3] - layers.shape[3] - left)
        layers = F.pad(layers, (left, right, above, below))
    else:
        layers = _seen(images, patches, mask, pixels_per_pixel, placed)
    colours, there = layers[:, :-1], layers[:, -1:]
    return (images * (1 - there) + colours).clamp(0, 1), there


def _on_whole_pixels(images: Tensor, mask: Tensor, coarse: int) -> bool:
    """Whether the patch's pixels fill whole pixels of the images, as far from one border as from the other."""
    return coarse >= 1 and all(
        own % coarse == 0 and own // coarse <= size and (size - own // coarse) % 2 == 0
        for own, size in zip(mask.shape, images.shape[2:], strict=True)
    )


def _seen(images: Tensor, patches: Tensor, mask: Tensor, pixels_per_pixel: float, placed: Tensor | None) -> Tensor:
    """(N, C + 1, H, W): what each pixel sees of patch and mask, from points spread evenly over it."""
    points = max(min(round(pixels_per_pixel), SUBSAMPLES), 1)
    layers = torch.cat([patches * mask, mask.expand(len(patches), 1, -1, -1)], 1)
    blurred = max(int(pixels_per_pixel / points), 1)  # patch pixels that one such point stands for
    if blurred > 1:
        over = [-size % blurred for size in mask.shape]
        layers = F.avg_pool2d(F.pad(layers, (0, over[1], 0, over[0])), blurred)
    height, width = images.shape[2:]
    down, right = (
        (torch.arange(size * points, device=images.device, dtype=images.dtype) + 0.5) / points - size / 2
        for size in (height, width)
    )
    if placed is None:
        x, y = (
            right[None, None].expand(len(images), len(down), -1),
            down[None, :, None].expand(len(images), -1, len(right)),
        )
    else:
        m = placed.to(images)[:, :, :, None, None]  # (N, 3, 3, 1, 1)
        x, y, z = (m[:, row, 0] * right + m[:, row, 1] * down[:, None] + m[:, row, 2] for row in range(3))
        behind = z <= 1e-3  # beyond the horizon of a perspective
        x, y = ((axis / z.clamp_min(1e-3)).masked_fill(behind, 1e6) for axis in (x, y))
    scale = pixels_per_pixel / blurred * 2  # from a pixel of the image to grid_sample's [-1, 1] over the layers
    grid = torch.stack([x * scale, y * scale], -1) / torch.tensor(layers.shape[:1:-1]).to(images)
    # What was padded lies right and below: the patch's middle is not that of the layers.
    middle = [own / blurred / padded - 1 for own, padded in zip(mask.shape[::-1], layers.shape[:1:-1], strict=True)]
    grid = grid + torch.tensor(middle).to(images)
    seen = F.grid_sample(layers.to(images), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return F.avg_pool2d(seen, points) if points > 1 else seen


def matrix_of(place: Placement, images: Tensor) -> Tensor:
    """(N, 3, 3): the matrix with which `lay` puts a patch at this placement."""
    one = place.matrix((1, 1)).to(images)  # from pixel 0's centre, to a patch of one pixel
    height, width = images.shape[2:]
    to_corner = torch.tensor([[1.0, 0, width / 2 - 0.5], [0, 1, height / 2 - 0.5], [0, 0, 1]]).to(images)
    last = torch.tensor([0.0, 0, 1]).to(images).expand(len(one), 1, 3)
    return torch.cat([one, last], 1) @ to_corner
