"""The adversary of a heap: ascent on the summed loss of all who share a perturbation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vallum.defences.plain import correct
from vallum.defences.shared_training.heaps import Heaps
from vallum.images import Batch
from vallum.models.model import Model
from vallum.threats.losses import clipped_cross_entropy, loss_named
from vallum.threats.norms import Norm
from vallum.threats.search import frozen


@dataclass(frozen=True)
class Ascent:
    """How far and how fast."""

    norm: Norm
    eps: float
    steps: int
    step_size: float
    clip: float | None  # what a single image can add to the loss at most; none: as much as it likes


Room = tuple[Tensor, Tensor]


def room(heaps: Heaps, images: Sequence[Tensor], like: Tensor) -> Room:
    """What may be subtracted and added: until an image alone is black or white; what is shared may go all the way."""
    if heaps.alone:
        clean = torch.cat([*images, like[:0]])
        return -clean, 1 - clean
    ones = torch.ones(heaps.count, *like.shape[1:], dtype=like.dtype, device=like.device)
    return -ones, ones


def anywhere(heaps: Heaps, box: Room, how: Ascent) -> Tensor:
    """(H, C, h, w) a random point of the ball for each heap."""
    return how.norm.random(heaps.draws, _radii(heaps, box[0], how.eps), *box)


def ascend(
    model: Model,
    batches: Sequence[Batch],
    which: Sequence[Tensor],
    heaps: Heaps,
    start: Tensor,
    box: Room,
    how: Ascent,
    sum_over_processes: Callable[[Tensor], Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The perturbations (H, C, h, w), and for each part the accuracy at the last look, a step before the end.

    `batches` are the images that are perturbed, `which` the heap of each.
    Each image's loss is clipped before it is summed, so that none outshouts the others. Gradients are summed in
    float64 and over processes before anything is made of them: who shares a heap, and where, changes no sign.
    """
    loss = loss_named("cross_entropy") if how.clip is None else partial(clipped_cross_entropy, most=how.clip)
    shared, looks = start, [start.new_full((), torch.nan) for _ in batches]
    low, high = box
    eps = _radii(heaps, start, how.eps)
    size = _radii(heaps, start, how.step_size)
    with frozen(model):
        for _ in range(how.steps):
            slope = torch.zeros(shared.shape, dtype=torch.float64, device=shared.device)
            for part, (batch, heap) in enumerate(zip(batches, which, strict=True)):
                moved = batch.images + shared[heap]
                point = moved.clamp(0, 1).requires_grad_()
                logits = model(point)
                (gradient,) = torch.autograd.grad(loss(logits, batch.labels).sum(), point)
                if not heaps.alone:  # an image that cannot go further that way has no say in it
                    gradient = gradient * ((moved >= 0) & (moved <= 1))
                slope.index_add_(0, heap, gradient.double())
                looks[part] = correct(logits.detach(), batch.labels).sum() / max(len(batch), 1)
            slope = slope if heaps.alone else sum_over_processes(slope)
            step = how.norm.steepest(slope.to(shared.dtype), size, low - shared, high - shared)
            shared = how.norm.project(shared + step, eps, low, high)
    return shared, looks


def _radii(heaps: Heaps, like: Tensor, value: float) -> Tensor:
    return torch.full((heaps.count,), value, dtype=like.dtype, device=like.device)
