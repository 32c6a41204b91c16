"""The climb of Auto-PGD: ascent with momentum whose steps shrink where they stop paying.

Croce & Hein 2020 (arXiv 2003.01690) for the norms inf and 2; for the norm 1 the sparse steps of their 2021 paper
(arXiv 2103.01208). Every image has a pace of its own, and leaves once it has fallen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.threats.norms import Ball, Norm
from vallum.threats.search import Best, overlay
from vallum.threats.slope import slope_of

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits, labels, aims) -> (n,), what is raised
Rank = Callable[[Tensor, Tensor], Tensor]  # (logits, labels) -> (n,), by which the best found is chosen


@dataclass
class Rows:
    """Where the climb of each image stands: every field has one entry per image."""

    which: Tensor  # its place in the whole batch
    clean: Tensor  # (n, C, H, W)
    label: Tensor
    aim: Tensor  # the class that the objective may drive it towards
    eps: Tensor
    delta: Tensor
    before: Tensor  # delta one step ago
    gradient: Tensor
    value: Tensor  # of the objective at delta
    top: Tensor  # the delta of the highest value so far
    top_gradient: Tensor
    top_value: Tensor
    checked_value: Tensor  # top_value at the last check
    step: Tensor  # length
    rises: Tensor  # steps since the last check that went up
    slowed: Tensor  # whether the last check shortened the step
    share: Tensor  # of the coordinates that a sparse step moves
    spread: Tensor  # how many coordinates top differed in at the last check

    @classmethod
    def begin(cls, which: Tensor, clean: Tensor, label: Tensor, aim: Tensor, eps: Tensor, start: Tensor) -> Rows:
        lowest = torch.full_like(eps, -torch.inf, dtype=torch.promote_types(eps.dtype, torch.float32))
        nothing, zero = torch.zeros_like(clean), torch.zeros_like(which)
        return cls(
            which, clean, label, aim, eps, start, start, nothing, lowest, start, nothing, lowest, lowest,
            eps, zero, zero == 0, torch.zeros_like(lowest), torch.zeros_like(lowest),
        )  # fmt: skip

    def take(self, stays: Tensor) -> Rows:
        return Rows(*(getattr(self, field.name)[stays] for field in dataclasses.fields(self)))

    def back_to_top(self, these: Tensor) -> None:
        wide = these.view(-1, 1, 1, 1)
        self.delta = torch.where(wide, self.top, self.delta)
        self.gradient = torch.where(wide, self.top_gradient, self.gradient)
        self.value = torch.where(these, self.top_value, self.value)


class Momentum:
    """Norms inf and 2: steps with momentum, halved where too few of them went up."""

    def __init__(self, norm: Norm, rows: Rows, steps: int) -> None:
        self.norm = norm
        self.period, self.shortest, self.shrink = (max(int(part * steps), 1) for part in (0.22, 0.06, 0.03))
        rows.step = 2 * rows.eps

    def move(self, rows: Rows, ball: Ball, first: bool) -> Tensor:
        ahead = ball.step(rows.delta, rows.gradient, rows.step)
        if first:
            return ahead
        # A quarter of the last step is added to three quarters of this one.
        return ball.project(ahead.mul_(0.75).add_(rows.delta, alpha=0.5).sub_(rows.before, alpha=0.25))

    def check(self, rows: Rows) -> None:
        few = rows.rises < 0.75 * self.period
        stuck = (rows.top_value <= rows.checked_value) & ~rows.slowed
        rows.slowed = few | stuck
        rows.step = torch.where(rows.slowed, rows.step / 2, rows.step)
        rows.back_to_top(rows.slowed)
        self.period = max(self.period - self.shrink, self.shortest)


class Sparse:
    """Norm 1: equal steps on the steepest coordinates, as many as the best perturbation had, over 1.5."""

    def __init__(self, norm: Norm, rows: Rows, steps: int) -> None:
        self.norm, self.period, self.longest = norm, max(int(0.04 * steps), 1), rows.eps
        dimension = rows.clean[0:1].numel()
        begun = (rows.delta != 0).flatten(1).sum(1).to(rows.share)
        random = begun > 0.5 * dimension  # a start that says nothing about how many coordinates matter
        rows.share = torch.where(random | (begun == 0), 0.2, begun / max(dimension, 1) / 1.5)
        rows.spread = torch.where(random, float(dimension), begun)
        rows.step = rows.eps

    def move(self, rows: Rows, ball: Ball, first: bool) -> Tensor:
        room = torch.where(rows.gradient > 0, ball.high - rows.delta, rows.delta - ball.low) > 0
        slope = (rows.gradient.abs() * room).flatten(1)  # (n, D)
        count = (rows.share * slope.shape[1]).floor().clamp(1, slope.shape[1]).long()
        last = slope.sort(1, descending=True)[0].gather(1, count[:, None] - 1)
        moved = (slope >= last) & (slope > 0)
        size = (rows.step / moved.sum(1).clamp_min(1).to(rows.step))[:, None] * moved
        ahead = rows.delta + rows.gradient.sign() * size.view_as(rows.delta)
        return ball.project(ahead)

    def check(self, rows: Rows) -> None:
        now = (rows.top != 0).flatten(1).sum(1).to(rows.share)
        sparser = now < 0.95 * rows.spread
        rows.share = now / rows.top[0:1].numel() / 1.5
        rows.step = torch.where(sparser, rows.eps, (rows.step / 1.5).maximum(rows.eps / 10))
        rows.spread = now
        rows.back_to_top(sparser)


def climb(
    model: Callable[[Tensor], Tensor],
    best: Best,
    rows: Rows,
    steps: int,
    norm: Norm,
    objective: Objective,
    rank: Rank | None = None,
    early_stop: bool = True,
    offers: bool = True,
    tracked: Objective | None = None,
) -> Rows:
    """Raise the objective; offer each point to `best`, unless the ball is not yet the one that counts.

    What is `tracked`, the objective itself if nothing else is given, says whether a step went up.
    Returns the rows of the images that still stand, each with the highest point of its climb.
    """
    pace = (Sparse if norm.name == "1" else Momentum)(norm, rows, steps)
    ball = Ball.around(norm, rows.clean, rows.eps)
    rows.top, rows.top_gradient = rows.top.clone(), rows.top_gradient.clone()  # written over below
    since = 0
    for step in range(steps + 1):  # the last pass only looks at where the last step led
        last = step == steps
        point = (rows.clean + rows.delta).clamp_(0, 1).requires_grad_(not last)
        with torch.set_grad_enabled(not last):
            logits = model(point)
            values = objective(logits, rows.label, rows.aim)  # (n,)
        if offers:
            judged = values if rank is None else rank(logits.detach(), rows.label)
            best.offer(rows.which, point.detach(), logits.detach(), judged.detach())
        gradient = rows.gradient
        if not last:
            if early_stop and offers and bool(best.has_fallen[rows.which].all()):
                return rows.take(~best.has_fallen[rows.which])
            gradient = slope_of(values, point)
        values = (values if tracked is None else tracked(logits.detach(), rows.label, rows.aim)).detach()
        values = values.where(values < torch.inf, -torch.inf)  # no climb goes on from where there is no answer
        rose = values > rows.value
        higher = values > rows.top_value
        rows.rises = rows.rises + rose
        rows.value, rows.gradient = values, gradient
        overlay(rows.top, rows.delta, higher)
        overlay(rows.top_gradient, gradient, higher)
        rows.top_value = torch.where(higher, values, rows.top_value)
        if early_stop and offers and bool((gone := best.has_fallen[rows.which]).any()):
            rows, ball = rows.take(~gone), ball.take(~gone)
        if last or not len(rows.which):
            break
        if step == 0:
            rows.rises, rows.checked_value = torch.zeros_like(rows.rises), rows.top_value
        elif since == pace.period:
            pace.check(rows)
            since, rows.rises, rows.checked_value = 0, torch.zeros_like(rows.rises), rows.top_value
        rows.delta, rows.before = pace.move(rows, ball, first=step == 0), rows.delta
        since += 1
    return rows


def phases(steps: int, norm: Norm, large_first: bool) -> list[tuple[float, int]]:
    """Radii, in units of eps, and steps in each: the last is the ball itself."""
    if not large_first or steps < 10:
        return [(1.0, steps)]
    first = math.ceil(0.3 * steps)
    factors = (3.0, 2.0, 1.0) if norm.name == "1" else (2.0, 1.5, 1.0)
    return list(zip(factors, (first, first, steps - 2 * first), strict=True))


def climb_through(
    model: Callable[[Tensor], Tensor],
    best: Best,
    rows: Rows,
    steps: list[tuple[float, int]],
    norm: Norm,
    objective: Objective,
    rank: Rank | None = None,
    early_stop: bool = True,
    tracked: Objective | None = None,
) -> None:
    """Climb in one ball after the other, in each from the nearest point to the highest of the one before."""
    eps = rows.eps
    for factor, count in steps:
        start = norm.project(rows.top, eps * factor, -rows.clean, 1 - rows.clean)
        rows = Rows.begin(rows.which, rows.clean, rows.label, rows.aim, eps * factor, start)
        rows = climb(model, best, rows, count, norm, objective, rank, early_stop, factor == 1.0, tracked)
