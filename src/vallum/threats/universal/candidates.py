"""Many short searches, the better ones longer, the best of all taken by images that none of them climbed on.

Measured on networks plain and hardened: who is found early to go the better way needs few steps for that, the rest is
better spent on one long climb; and each round does best with first steps as long as those of the first one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.universal.ascent import Ball, Pace, Seen, ascend
from vallum.threats.universal.goals import Goal
from vallum.threats.universal.pool import Pool

ROUNDS = (0.125, 0.25, 1.0)  # how long each round is, as a share of the steps
KEPT = 3  # what share of the candidates goes on: one of so many

Votes = Counter[int]  # how often each wrong answer was given


def cost_of(ways: float, images: int, steps: int) -> float:
    """About how many passes it takes that so many ways compete, with so many images per step."""
    passes = 0.0
    for share in ROUNDS:
        passes += ways * 3.0 * share * steps * images
        ways = max(1.0, ways // KEPT)
    return passes


@dataclass
class Way:
    """One way to look for a perturbation, and the best that it has led to."""

    name: str
    goal: Goal
    delta: Tensor  # (1, C, h, w) where it stands
    momentum: float = 0.0
    parts: int = 1  # of a batch, where gradients are aggregated
    climbs: bool = True  # a fixed pattern does not
    failure: float = math.inf  # on the images to choose by: what of the goal is missed


def compete(
    seen: Seen, pool: Pool, ways: Sequence[Way], judged: Goal, ball: Ball, steps: int, batch_size: int, draws: Draws
) -> list[Way]:
    """The ways, best first. After each round a third of them goes on, from where it is, for longer."""
    for way in ways:
        if way.failure == math.inf:  # not looked at before
            way.failure = missed(seen, pool, way.delta, judged, batch_size)
    racing = [way for way in ways if way.climbs]
    for number, share in enumerate(ROUNDS):
        for way in racing:
            pace = Pace(max(1, round(share * steps)), batch_size, momentum=way.momentum, parts=way.parts)
            delta = ascend(seen, pool, way.goal, way.delta, ball, pace, draws.of(f"{way.name}/{number}"))
            failure = missed(seen, pool, delta, judged, batch_size)
            if failure <= way.failure:
                way.delta, way.failure = delta, failure
        racing = sorted(racing, key=lambda way: way.failure)[: max(1, len(racing) // KEPT)]
    return sorted(ways, key=lambda way: way.failure)


def look(seen: Seen, pool: Pool, ways: Sequence[Way], judged: Goal, batch_size: int) -> Votes:
    """Judge where the ways start, who starts where another does but once; says what the wrong answers are there."""
    votes: Votes = Counter()
    known: list[Way] = []
    for way in ways:
        same = next((other for other in known if torch.equal(other.delta, way.delta)), None)
        if same is None:
            way.failure = missed(seen, pool, way.delta, judged, batch_size, votes)
            known.append(way)
        else:
            way.failure = same.failure
    return votes


def frequent(votes: Votes, count: int) -> list[int]:
    """The classes that wrong answers were most often."""
    return sorted(votes, key=lambda answer: (-votes[answer], answer))[:count]


def missed(seen: Seen, pool: Pool, delta: Tensor, goal: Goal, batch_size: int, votes: Votes | None = None) -> float:
    """What of the goal is missed on the images to choose by, in the mean; `votes` counts the wrong answers."""
    total, count = 0.0, 0
    for indices in pool.selection(batch_size):
        batch = pool.batch(indices)
        if not len(batch):
            continue
        with torch.no_grad():
            moved, labels = seen.laid(batch.images, batch.labels, delta, batch.keys, "choosing")
            answers = seen.model(moved).argmax(1)
        clean = seen.answers(batch.images, batch.keys) if goal.needs_clean else labels
        seen.spent.forwards += len(batch)
        total += float(goal.failure(answers, labels, clean).sum())
        if votes is not None:
            votes.update(answers[answers != labels].tolist())
        count += len(batch)
    return total / max(count, 1)
