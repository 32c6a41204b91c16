"""The worst case for segmentation: complementary losses, each climbed in balls that shrink, the best kept per image.

In the manner of SEA, Croce et al. 2024 (arXiv 2306.12941), with CosPGD's loss beside its own, climbed as PAdam does
(Halmosi et al. 2024, arXiv 2407.09150): at the end and at equal passes that left less than CosPGD's own way there. A
climb begins where the best one so far ended, so that a later loss finishes what an earlier one began; and each image
keeps the point at which the largest share of its pixels is wrong, or at which its own mIoU is lowest. That also says
whether a step went up, and so sets the pace: a masked loss falls with every pixel that has been won.
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
from vallum.threats.norms import Ball, Norm
from vallum.threats.padam import climb_by_values, pace
from vallum.threats.search import Best
from vallum.threats.segmentation_losses import balanced_cross_entropy, lost_overlap, wrong_share

STEPS = 60
# Each loss, and whether every value of the perturbation goes at a pace of its own, as PAdam's.
CLIMBS: tuple[tuple[str | Loss, bool], ...] = (
    ("masked_cross_entropy", False),
    (balanced_cross_entropy, False),
    ("jensen_shannon", False),
    ("cosine_cross_entropy", True),
)
MORE_CLIMBS: tuple[tuple[str | Loss, bool], ...] = (
    ("cosine_cross_entropy", False),
    ("normalised_logit", False),
    ("cross_entropy", False),
    ("margin", False),
)
LOWEST: dict[str, Rank] = {"accuracy": wrong_share, "miou": lost_overlap}


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
    rank = LOWEST[lowest]
    if shares is not None:
        rank = partial(lost_overlap, shares=shares.to(images.device))
    exact, best.rank = best.judge or model, rank

    def judge(which: Tensor, points: Tensor) -> None:
        with torch.no_grad():
            logits = exact(points)
        best.offer(which, points, logits, rank(logits, best.labels[which]))

    judge(best.everyone(), images)
    for place, (named, by_values) in enumerate(_climbs(norm, exhaustive)):
        standing = best.standing()
        if not len(standing):
            return
        loss = loss_named(named) if isinstance(named, str) else named
        if shares is not None and loss is balanced_cross_entropy:
            loss = partial(balanced_cross_entropy, shares=shares.to(images.device))
        clean, eps = images[standing], radii[standing]
        balls = [(1.0, steps)] if by_values else phases(steps, norm, large_first=True)
        start = best.images[standing] - clean
        if place == 0 or exhaustive:
            start = norm.random(draws.take(standing).of(place), eps * balls[0][0], -clean, 1 - clean)
        label = best.labels[standing]
        found = Best(clean, label, targeted=False, judge=best.judge, rank=rank)
        raised = _raised(loss)
        if by_values:  # from near the best point, so at half the pace
            size, ball = pace(norm, eps, clean) / 2, Ball.around(norm, clean, eps)
            climb_by_values(model, found, clean, label, start, ball, size, steps, raised, early_stop=True)
        else:
            rows = Rows.begin(found.everyone(), clean, label, label, eps, start)
            climb_through(model, found, rows, balls, norm, raised, rank, tracked=_tracked(rank))
        judge(standing, found.images)


def union_passes(steps: int, exhaustive: bool, norm: Norm) -> float:
    """Per image, a backward pass counting as two: a climb looks once more in each ball, its best point is judged."""
    balls = len(phases(steps, norm, large_first=True))
    looks = [1 if by_values else balls for _, by_values in _climbs(norm, exhaustive)]
    return 1 + sum(3.0 * steps + look + 1 for look in looks)


def _climbs(norm: Norm, exhaustive: bool) -> list[tuple[str | Loss, bool]]:
    climbs = CLIMBS + MORE_CLIMBS if exhaustive else CLIMBS
    # In the norm 1 few values should move, and a pace of its own would move them all.
    return list(dict.fromkeys((loss, by_values and norm.name != "1") for loss, by_values in climbs))


def _raised(loss: Loss) -> Callable[..., Tensor]:
    return lambda logits, labels, _: loss(logits, labels)


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
