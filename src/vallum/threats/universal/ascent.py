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
from vallum.threats.placement import covered
from vallum.threats.slope import slope_of
from vallum.threats.universal.goals import Goal
from vallum.threats.universal.laying import Lay, Paste, add
from vallum.threats.universal.pool import Pool

LAST = 0.02  # step, as a share of the radius


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

    def __init__(self, model: Callable[[Tensor], Tensor], spent: Counter, lay: Lay = add) -> None:
        self.model, self.spent, self.lay = model, spent, lay
        self.clean: dict[int, Tensor] = {}

    def laid(self, images: Tensor, labels: Tensor, delta: Tensor, keys: Tensor, purpose: str) -> tuple[Tensor, Tensor]:
        """The images with the perturbation, and their labels, which are ignored beneath a patch."""
        if isinstance(self.lay, Paste):
            moved, there = self.lay.laid(images, delta, keys, purpose)
            return moved, covered(labels, there)
        return self.lay(images, delta, keys, purpose), labels

    def answers(self, images: Tensor, keys: Tensor) -> Tensor:
        missing = [row for row, key in enumerate(keys.tolist()) if key not in self.clean]
        if missing:
            with torch.no_grad():
                said = self.model(images[missing]).argmax(1)
            self.spent.forwards += len(missing)
            for row, answer in zip(missing, said, strict=True):
                self.clean[int(keys[row])] = answer.to(torch.int16)
        return torch.stack([self.clean[key] for key in keys.tolist()]).long()


@dataclass(frozen=True)
class Pace:
    """How a climb goes: first steps that cross most of the ball get farthest; momentum hinders most objectives."""

    steps: int
    batch_size: int
    first: float = 1.6  # step, as a share of the radius
    momentum: float = 0.0
    parts: int = 1  # of a batch, where their gradients are aggregated as SGA does


def ascend(seen: Seen, pool: Pool, goal: Goal, delta: Tensor, ball: Ball, pace: Pace, draws: Draws) -> Tensor:
    """Where a climb from `delta`, (1, C, h, w), leads."""
    speed = torch.zeros_like(delta)
    for step, indices in enumerate(pool.stream(draws, pace.batch_size, pace.steps)):
        batch = pool.batch(indices)
        if not len(batch):
            continue
        share = LAST + (pace.first - LAST) * (1 + math.cos(math.pi * step / pace.steps)) / 2
        inner, slope = delta, torch.zeros_like(delta)
        for part in torch.arange(len(batch), device=delta.device).chunk(pace.parts):
            leaf = inner.clone().requires_grad_()
            images, labels = batch.images[part], batch.labels[part]
            keys = batch.keys[part.cpu()]
            moved, labels = seen.laid(images, labels, leaf, keys, f"step {step}")
            logits = seen.model(moved)
            clean = seen.answers(images, keys) if goal.needs_clean else labels
            gradient = slope_of(goal.raised(logits, labels, clean), leaf, box=None)
            seen.spent.forwards += len(part)
            seen.spent.backwards += len(part)
            slope = slope + gradient
            if pace.parts > 1:
                inner = ball.step(inner, gradient, share)
        # Without a guard a gradient that is zero everywhere, as when all have fallen, would divide by it.
        speed = pace.momentum * speed + slope / slope.abs().mean().clamp_min(1e-30)
        delta = ball.step(delta, speed, share)
    return delta
