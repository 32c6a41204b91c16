"""Small changes that leave the label as it is, drawn for each image alone."""

from __future__ import annotations

import torch
from torch import Tensor

from vallum.images import IGNORE, Batch, Draws
from vallum.training.settings import Settings

GREY = (0.299, 0.587, 0.114)  # how bright the eye finds red, green and blue


def augment(batch: Batch, settings: Settings, epoch: int) -> Batch:
    """Shift, mirror and recolour as `settings` say; what an image draws depends on its key, not on its neighbours."""
    if not (settings.shift or settings.flip or settings.colour):
        return batch
    chance = Draws(settings.seed, batch.keys, f"epoch {epoch}").uniform(6, purpose="augment")  # (N, 6)
    images, labels = batch.images, batch.labels
    if settings.shift:
        images, labels = _shifted(images, labels, (chance[:, :2] * 2 - 1) * settings.shift)
    if settings.flip:
        mirrored = chance[:, 2] < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        if labels.ndim > 1:
            labels = torch.where(mirrored.view(-1, 1, 1), labels.flip(-1), labels)
    if settings.colour:
        images = _recoloured(images, 1 + (chance[:, 3:] * 2 - 1) * settings.colour)
    return Batch(images, labels, batch.keys, batch.names)


def _shifted(images: Tensor, labels: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """By whole pixels; what comes in is the image's own edge, whose labels nobody knows."""
    height, width = images.shape[-2:]
    down = (shares[:, 0] * height).round().long()[:, None]  # (N, 1)
    right = (shares[:, 1] * width).round().long()[:, None]
    rows, columns = torch.arange(height) + down, torch.arange(width) + right  # (N, H), (N, W)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    flat = source.view(len(images), 1, -1).expand(-1, images.shape[1], -1)  # (N, C, H * W): one gather for all
    images = images.flatten(2).gather(2, flat).view_as(images)
    if labels.ndim > 1:
        outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
        labels = labels.flatten(1).gather(1, source.flatten(1)).view_as(labels).masked_fill(outside, IGNORE)
    return images, labels


def _recoloured(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast about middle grey, saturation: (N, 3) factors. Elementwise, so exact in any batch."""
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1).to(images.dtype) for f in factors.unbind(1))
    images = (images * brightness).sub_(0.5).mul_(contrast).add_(0.5)  # in place: memory is what this waits for
    if images.shape[1] == 3:
        grey = images[:, :1] * GREY[0]
        for channel in (1, 2):
            grey += images[:, channel : channel + 1] * GREY[channel]
        images.sub_(grey).mul_(saturation).add_(grey)
    return images.clamp_(0, 1)
