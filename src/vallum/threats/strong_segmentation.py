"""The worst case for segmentation: complementary losses, each climbed in balls that shrink, the best kept per image.

In the manner of SEA, Croce et al. 2024 (arXiv 2306.12941), with the loss of CosPGD beside its own. A climb begins where
the best one so far ended, so that a later loss finishes what an earlier one began; and each image keeps the point at
which the largest share of its pixels is wrong, or at which its own mIoU is lowest. That also says whether a step went
up, and so sets the pace: a masked loss falls with every pixel that has been won.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.threats.climb import Objective, Rank, Rows, climb_through, phases
from vallum.threats.losses import Loss, loss_named
from vallum.threats.norms import Norm
from vallum.threats.search import Best
from vallum.threats.segmentation_losses import balanced_cross_entropy, lost_overlap, wrong_share

STEPS = 60
LOSSES: tuple[str | Loss, ...] = (
    "masked_cross_entropy",
    balanced_cross_entropy,
    "jensen_shannon",
    "cosine_cross_entropy",
)
LOWEST: dict[str, Rank] = {"accuracy": wrong_share, "miou": lost_overlap}
MORE_LOSSES: tuple[str | Loss, ...] = ("normalised_logit", "cross_entropy", "margin")


def union(
    model: Callable[[Tensor], Tensor],
    best: Best,
    images: Tensor,
    radii: Tensor,
    norm: Norm,
    draws: Draws,
    steps: int,
    exhaustive: bool,
    lowest: str,
    shares: Tensor | None = None,
) -> None:
    """Offer `best` the images as they are and the best point of each climb, judged by the model itself."""
    losses, rank = LOSSES + MORE_LOSSES if exhaustive else LOSSES, LOWEST[lowest]
    if shares is not None:
        rank = partial(lost_overlap, shares=shares.to(images.device))
    exact, best.rank = best.judge or model, rank

    def judge(which: Tensor, points: Tensor) -> None:
        with torch.no_grad():
            logits = exact(points)
        best.offer(which, points, logits, rank(logits, best.labels[which]))

    judge(best.everyone(), images)
    for place, named in enumerate(losses):
        standing = best.standing()
        if not len(standing):
            return
        loss = loss_named(named) if isinstance(named, str) else named
        if shares is not None and loss is balanced_cross_entropy:
            loss = partial(balanced_cross_entropy, shares=shares.to(images.device))
        clean, eps = images[standing], radii[standing]
        balls = phases(steps, norm, large_first=True)
        start = best.images[standing] - clean
        if place == 0 or exhaustive:
            start = norm.random(draws.take(standing).of(place), eps * balls[0][0], -clean, 1 - clean)
        label = best.labels[standing]
        found = Best(clean, label, targeted=False, judge=best.judge, rank=rank)
        rows = Rows.begin(found.everyone(), clean, label, label, eps, start)
        climb_through(model, found, rows, balls, norm, _raised(loss), rank, tracked=_tracked(rank))
        judge(standing, found.images)


def union_passes(steps: int, exhaustive: bool, norm: Norm) -> float:
    """Per image, a backward pass counting as two: a climb looks once more in each ball, its best point is judged."""
    losses, balls = LOSSES + MORE_LOSSES if exhaustive else LOSSES, phases(steps, norm, large_first=True)
    return 1 + len(losses) * (3.0 * steps + len(balls) + 1)


def _raised(loss: Loss) -> Objective:
    return lambda logits, labels, aims: loss(logits, labels)


def _tracked(rank: Rank) -> Objective:
    return lambda logits, labels, aims: rank(logits, labels).to(logits.dtype)


def shares_of(labels: Tensor, classes: int) -> str:
    """How common each class is among pixels that have a label, as `strong` reads it.

    >>> shares_of(torch.tensor([[0, 0, 2, 255]]), classes=3)
    '(0.667,0,0.333)'
    """
    counts = torch.bincount(labels[labels != IGNORE], minlength=classes).double()
    return f"({','.join(f'{float(share):.3g}' for share in counts / counts.sum().clamp_min(1))})"


def read_shares(text: str) -> Tensor:
    """(K,) adding up to one."""
    try:
        shares = torch.tensor([float(share) for share in text.strip("() ").split(",")], dtype=torch.float64)
    except ValueError:
        shares = torch.tensor([math.nan])
    if not bool((shares >= 0).all()) or not 0 < float(shares.sum()) < math.inf:
        raise UserError(f"shares={text}", "one number for each class is needed", "write shares=(0.5,0.3,0.2)")
    return shares / shares.sum()
