"""Pictures without an object, for asking what a patch says on its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.images import Draws


def backgrounds(images: Tensor, draws: Draws) -> Tensor:
    """As many pictures, each one of: the mean colour of its image, noise, or soft blotches of random colour.

    >>> backgrounds(torch.rand(4, 3, 8, 8), Draws(0, range(4))).shape
    torch.Size([4, 3, 8, 8])
    """
    channels, height, width = images.shape[1:]
    kind = draws.integers(3, purpose="kind", device=images.device)[:, None, None, None]
    mean = images.mean((2, 3), keepdim=True).expand_as(images)
    noise = draws.uniform(channels, height, width, purpose="noise", device=images.device).to(images)
    blots = draws.uniform(channels, 4, 4, purpose="blots", device=images.device).to(images)
    soft = F.interpolate(blots, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.where(kind == 0, mean, torch.where(kind == 1, noise, soft))
