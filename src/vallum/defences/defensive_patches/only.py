"""Attacks that may touch the object only, or the patch only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vallum.threats.base import Threat


class Only(nn.Module):
    """A model that is shown the `original` wherever `free` is 0: what an attack does there has no effect.

    `free` is (N or 1, 1, H, W). An attack may drop images that have fallen, so they are told by their rows: it is
    asked through `attacked`, which knows them.
    """

    def __init__(self, model: nn.Module, original: Tensor, free: Tensor) -> None:
        super().__init__()
        self.model, self.original, self.free = model, original, free

    def forward(self, images: Tensor) -> Tensor:
        return self.model(torch.where(self.free > 0, images, self.original))


def attacked(
    threat: Threat,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    keys: Sequence[int] | Tensor | None = None,
    free: Tensor | None = None,
) -> Tensor:
    """What the threat makes of the images where it may change only the pixels at which `free` is not 0.

    Any threat will do that asks about all of its images each time, as one does without early stopping.

    >>> from vallum.threats import threat
    >>> from vallum.models import load_model
    >>> images, free = torch.rand(2, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    >>> free[:, :, :16] = 1
    >>> attack = threat("pgd:eps=8/255,steps=2,early_stop=false")
    >>> moved = attacked(attack, load_model("builtin:signs_resnet"), images, torch.tensor([0, 1]), free=free) != images
    >>> bool(moved[:, :, :16].any()), bool(moved[:, :, 16:].any())
    (True, False)
    """
    if free is None:
        return threat(model, images, labels, keys)
    shown: Any = Only(model, images, free)
    shown.train(model.training)
    found = threat(shown, images, labels, keys)
    return torch.where(free > 0, found, images)
