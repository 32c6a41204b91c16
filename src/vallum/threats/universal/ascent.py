"""Stochastic projected gradient ascent on one perturbation: a fresh batch of images at each step.

Momentum on gradients of equal length, steps that shrink, and on request the aggregation of SGA (Liu et al. 2023): the
batch is walked through in small parts, each a step of its own, and the way's gradients together make the one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.norms import Norm
from vallum.threats.universal.found import repeated
from vallum.threats.universal.goals import Goal
from vallum.threats.universal.pool import Pool

FIRST, LAST = 0.25, 0.005  # steps, as shares of the radius
MOMENTUM = 0.9
AVERAGED = 0.1  # the share of the steps, at the end, whose mean is a candidate too


@dataclass
class Ball:
    """Where the perturbation may be."""

    norm: Norm
    eps: float

    def step(self, delta: Tensor, direction: Tensor, share: float) -> Tensor:
        """A step of that share of the radius, and back into the ball; (1, C, h, w)."""
        ones = torch.ones_like(delta)
        radius = delta.new_full((1,), self.eps)
        ahead = self.norm.steepest(direction, radius * share, -ones - delta, ones - delta)
        return self.norm.project(delta + ahead, radius, -ones, ones)


@dataclass
class Counter:
    """Passes spent, an image each."""

    forwards: int = 0
    backwards: int = 0


class Seen:
    """A model, and what it says of images that are not perturbed, where a goal asks for that."""

    def __init__(self, model: Callable[[Tensor], Tensor], spent: Counter) -> None:
        self.model, self.spent = model, spent
        self.clean: dict[int, Tensor] = {}

    def answers(self, images: Tensor, keys: Tensor) -> Tensor:
        missing = [row for row, key in enumerate(keys.tolist()) if key not in self.clean]
        if missing:
            with torch.no_grad():
                said = self.model(images[missing]).argmax(1)
            self.spent.forwards += len(missing)
            for row, answer in zip(missing, said, strict=True):
                self.clean[int(keys[row])] = answer.to(torch.int16)
        return torch.stack([self.clean[key] for key in keys.tolist()]).long()


def ascend(
    seen: Seen, pool: Pool, goal: Goal, delta: Tensor, ball: Ball, steps: int, batch_size: int, parts: int, draws: Draws
) -> list[Tensor]:
    """Where `steps` from `delta`, (1, C, h, w), lead: the last point, and the mean of the last ones."""
    speed, total, count = torch.zeros_like(delta), torch.zeros_like(delta), 0
    for step, indices in enumerate(pool.stream(draws, batch_size, steps)):
        batch = pool.batch(indices)
        if not len(batch):
            continue
        share = LAST + (FIRST - LAST) * (1 + math.cos(math.pi * step / steps)) / 2
        inner, slope = delta, torch.zeros_like(delta)
        for part in torch.arange(len(batch), device=delta.device).chunk(parts):
            leaf = inner.clone().requires_grad_()
            images, labels = batch.images[part], batch.labels[part]
            logits = seen.model((images + repeated(leaf, *images.shape[-2:])).clamp(0, 1))
            clean = seen.answers(images, batch.keys[part.cpu()]) if goal.needs_clean else labels
            (gradient,) = torch.autograd.grad(goal.raised(logits, labels, clean).sum(), leaf)
            seen.spent.forwards += len(part)
            seen.spent.backwards += len(part)
            slope = slope + gradient
            if parts > 1:
                inner = ball.step(inner, gradient, share)
        # Without a guard a gradient that is zero everywhere, as when all have fallen, would divide by it.
        speed = MOMENTUM * speed + slope / slope.abs().mean().clamp_min(1e-30)
        delta = ball.step(delta, speed, share)
        if step >= steps * (1 - AVERAGED):
            total, count = total + delta, count + 1
    return [delta, total / count] if count > 1 else [delta]
