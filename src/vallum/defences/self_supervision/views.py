"""Another look at each image: a part of it, mirrored, recoloured, all of it differentiable as often as one likes.

Cropping and zooming are products with one matrix per axis, so that gradients of gradients exist, and each image has
its own. What is drawn is drawn beforehand: the same draw can be replayed, on the image or on a map of its features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws

GREY = (0.299, 0.587, 0.114)  # how bright the eye finds red, green and blue


@dataclass(frozen=True)
class Box:
    """A part of each image, as shares of its sides; every field is (n, 2): rows, columns."""

    start: Tensor
    size: Tensor
    mirrored: Tensor  # of the columns alone

    @classmethod
    def draw(cls, draws: Draws, smallest: float, purpose: str, flip: bool = True) -> Box:
        """Between `smallest` and all of the area, as wide as high give or take a third, mirrored half of the time."""
        area, ratio, down, right, mirror = draws.uniform(5, purpose=purpose).unbind(1)  # (n,)
        area = smallest + (1 - smallest) * area
        ratio = (4 / 3) ** (ratio * 2 - 1)
        size = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], 1).clamp_max(1)
        start = torch.stack([down, right], 1) * (1 - size)
        return cls(start, size, ((mirror < 0.5) & flip)[:, None].expand(-1, 2) & torch.tensor([False, True]))


def cropped(images: Tensor, box: Box) -> Tensor:
    """The part of each image (N, C, H, W) that its box shows, at the same size; one box may serve all."""
    rows, columns = (_weights(box, axis, images) for axis in (0, 1))  # (n, H, H), (n, W, W)
    return rows[:, None] @ images @ columns[:, None].transpose(2, 3)


def _weights(box: Box, axis: int, images: Tensor) -> Tensor:
    """(n, L, L) how much of each pixel along an axis goes into each pixel of what is shown: linear interpolation."""
    length = images.shape[2 + axis]
    place = (torch.arange(length, dtype=torch.float64) + 0.5) / length  # of the pixels shown, in the box
    at = torch.where(box.mirrored[:, axis, None], 1 - place, place)  # (n, L)
    at = (box.start[:, axis, None] + at * box.size[:, axis, None]) * length - 0.5
    at = at.clamp(0, length - 1)
    pixels = torch.arange(length, dtype=torch.float64)
    return (1 - (at[:, :, None] - pixels).abs()).clamp_min(0).to(images)


def recoloured(images: Tensor, factors: Tensor, grey: Tensor) -> Tensor:
    """Brightness, contrast and saturation by these factors (n, 3), colourless where `grey` (n,) says so.

    What leaves [0, 1] stays there, as a view is for the network's eyes alone.
    """
    factors = factors.to(images)
    brightness, contrast, saturation = (factor.view(-1, 1, 1, 1) for factor in factors.unbind(1))
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    if images.shape[1] != 3:
        return images
    weights = torch.tensor(GREY).to(images).view(1, 3, 1, 1)
    bright = (images * weights).sum(1, keepdim=True)
    colourful = bright + (images - bright) * saturation
    return torch.where(grey.to(images.device).view(-1, 1, 1, 1), bright, colourful)


def turned(images: Tensor, quarters: Tensor) -> Tensor:
    """Each image by its number of quarters, (n,); one number may serve all. Where it is not square it is squeezed."""
    quarters = quarters.to(images.device)
    if len(quarters) == 1:
        return turned_all(images, int(quarters))
    ways = torch.stack([turned_all(images, quarter) for quarter in range(4)])  # (4, N, C, H, W)
    return ways[quarters, torch.arange(len(images), device=images.device)]


def turned_all(images: Tensor, quarter: int) -> Tensor:
    """All of them by the same number of quarters."""
    if quarter == 0:
        return images
    found = images.rot90(quarter, (2, 3))
    if found.shape == images.shape:
        return found
    return torch.nn.functional.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)
