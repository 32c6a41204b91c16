"""One patch out of several, each made for a model of its own.

The published merge matches pixel Grams: of the patch's pixels with all pixels of the image it lies on. That is a least
squares pull, weighted by the images' colours, towards the mean; the mean itself takes no steps at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Scene = tuple[Tensor, Tensor]  # images without a patch (N, 3, H, W), and their labels (N,)


def merged_by_mean(copies: Tensor) -> Tensor:
    """(K, C, 3, h, w) -> (C, 3, h, w)."""
    return copies.mean(0)


def merged_by_gram(
    copies: Tensor, mask: Tensor, scenes: Sequence[Scene], lr: float = 0.03, start: Tensor | None = None
) -> Tensor:
    """The patches whose pixel Grams are nearest to those of the copies, a step of Adam for each of the scenes.

    Patch and images are of one size here, in [0, 1]; the Grams are taken of colours in [-1, 1], as published. `lr` is
    on that scale too.
    """
    theirs = 2 * copies.detach() - 1  # (K, C, 3, H, W)
    mine = (theirs.mean(0) if start is None else 2 * start.detach() - 1).clone().requires_grad_()
    adam = torch.optim.Adam([mine], lr)
    inside = mask.flatten() > 0
    for images, labels in scenes:
        around = 2 * images - 1
        adam.zero_grad(set_to_none=True)
        loss = torch.zeros((), dtype=torch.float64, device=images.device)
        for copy in theirs:
            loss = loss + gram_distance(_laid(around, mine, labels, mask), _laid(around, copy, labels, mask), inside)
        (loss / len(theirs)).backward()
        adam.step()
    return ((mine.detach() + 1) / 2).clamp(0, 1)


def _laid(images: Tensor, patches: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    chosen = patches[torch.zeros_like(labels) if len(patches) == 1 else labels]
    return (images * (1 - mask) + chosen * mask).flatten(2)  # (N, 3, P)


def gram_distance(one: Tensor, other: Tensor, inside: Tensor) -> Tensor:
    """Mean squared difference of the Grams ring x all pixels of two batches (N, 3, P), `inside` being the ring's.

    The Grams themselves, (N, R, P), are never made: ||A'B - D'E||^2 = <AA', BB'> - 2 <AD', BE'> + <DD', EE'>, and those
    are 3 x 3. In float64, because the three nearly cancel.
    """
    one, other = one.double(), other.double()
    ring, theirs = one[..., inside], other[..., inside]

    def inner(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return ((a @ b.mT) * (c @ d.mT)).sum()

    total = inner(ring, ring, one, one) - 2 * inner(ring, theirs, one, other) + inner(theirs, theirs, other, other)
    return total / (len(one) * ring.shape[-1] * one.shape[-1])
