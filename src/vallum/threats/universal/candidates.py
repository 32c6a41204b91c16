"""Many short searches, the better ones longer, the best of all taken by images that none of them climbed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.universal.ascent import Ball, Seen, ascend
from vallum.threats.universal.found import repeated
from vallum.threats.universal.goals import Goal
from vallum.threats.universal.pool import Pool

ROUNDS = (0.25, 0.5, 1.0)  # how long each round is, as a share of the steps
KEPT = 3  # what share of the candidates goes on: one of so many


@dataclass
class Way:
    """One way to look for a perturbation, and the best that it has led to."""

    name: str
    goal: Goal
    delta: Tensor  # (1, C, h, w) where it stands
    parts: int = 1  # of a batch, where their gradients are aggregated as SGA does
    climbs: bool = True  # a fixed pattern does not
    failure: float = float("inf")  # on the images to choose by: what of the goal is missed


def compete(
    seen: Seen, pool: Pool, ways: Sequence[Way], judged: Goal, ball: Ball, steps: int, batch_size: int, draws: Draws
) -> list[Way]:
    """The ways, best first. In each round a third of them goes on, from where it is, for twice as long."""
    for way in ways:
        way.failure = missed(seen, pool, way.delta, judged, batch_size)
    racing = [way for way in ways if way.climbs]
    for number, share in enumerate(ROUNDS):
        for way in racing:
            length = max(1, round(share * steps))
            chance = draws.of(f"{way.name}/{number}")
            for delta in ascend(seen, pool, way.goal, way.delta, ball, length, batch_size, way.parts, chance):
                failure = missed(seen, pool, delta, judged, batch_size)
                if failure <= way.failure:
                    way.delta, way.failure = delta, failure
        racing = sorted(racing, key=lambda way: way.failure)[: max(1, len(racing) // KEPT)]
    return sorted(ways, key=lambda way: way.failure)


def missed(seen: Seen, pool: Pool, delta: Tensor, goal: Goal, batch_size: int) -> float:
    """What of the goal is missed on the images to choose by, in the mean."""
    total, count = 0.0, 0
    for indices in pool.selection(batch_size):
        batch = pool.batch(indices)
        if not len(batch):
            continue
        clean = seen.answers(batch.images, batch.keys) if goal.needs_clean else batch.labels
        with torch.no_grad():
            moved = (batch.images + repeated(delta, *batch.images.shape[-2:])).clamp(0, 1)
            answers = seen.model(moved).argmax(1)
        seen.spent.forwards += len(batch)
        total += float(goal.failure(answers, batch.labels, clean).sum())
        count += len(batch)
    return total / max(count, 1)
