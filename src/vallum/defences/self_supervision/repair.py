"""The repair: a few small steps on the image itself, down the losses of self-supervised tasks, before it is classified.

Lawhon, Mao & Yang 2022, "Using Multiple Self-Supervised Tasks Improves Model Robustness" (arXiv 2204.03714), after Mao
et al. 2021, "Adversarial Attacks are Reversible with Natural Supervision" (arXiv 2103.14222). Each image is repaired on
its own: its losses, its draws and its steps do not depend on the batch that it is in.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vallum.defences.self_supervision.backbone import Backbone
from vallum.defences.self_supervision.objective import Combine, Objective, Weights
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter, parameters, read_value
from vallum.threats.norms import Ball, norm_named, per_image

Start = Literal["zero", "uniform", "guess"]


@dataclass(frozen=True)
class Repair:
    """How an image is repaired.

    >>> Repair(steps=10).sizes[-1] < Repair(steps=10).sizes[0]
    True
    """

    budget: float = parameter("how far an image may be moved", 8 / 255)
    steps: int = parameter("forward and backward passes of all looks; 0: no defence", 5)
    step_size: float | None = parameter("length of the first step; none: 2.5 * budget / steps", None)
    schedule: Literal["constant", "linear", "cosine"] = parameter("how the length of a step goes on", "linear")
    norm: Literal["inf", "2", "1"] = parameter("in which the budget is measured", "inf")
    start: Start = parameter("zero: from the image itself; uniform: anywhere near; guess: by a network", "zero")
    weights: Weights = parameter("of the losses: standard (by clean images), equal or paper (1:50:10)", "standard")
    combine: Combine = parameter("of the tasks' gradients: sum, grad_norm (unit lengths) or pcgrad", "sum")
    output: Literal["last", "best", "mean"] = parameter(
        "of the steps: last, lowest loss, or mean of the later half", "last"
    )
    gate: float = parameter("share of clean images that pass untouched, by each task; 0: all are repaired", 0.0)
    stop: float = parameter("an image is done once it does as well as this share of clean images; 0: never", 0.0)
    random: bool = parameter("draws depend on the image and on chance; false: they are the same for all", False)

    def __post_init__(self) -> None:
        for one in parameters(Repair):  # knobs may come as text, or 5.0 for 5
            value = getattr(self, one.name)
            if isinstance(value, str):
                object.__setattr__(self, one.name, read_value(value, one.type, one.name))
            elif one.type is int and value == int(value):
                object.__setattr__(self, one.name, int(value))
            elif not isinstance(value, bool) and one.type is bool:
                object.__setattr__(self, one.name, bool(value))
        if not 0 <= self.budget < math.inf or (self.norm == "inf" and self.budget > 1):
            raise UserError(f"budget={self.budget:g}", "pixels are in [0, 1]", f"write budget={self.budget:g}/255")
        if self.steps < 0 or self.steps != int(self.steps):
            raise UserError(f"steps={self.steps:g}", "a whole number, 0 or more")
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise UserError(f"step_size={self.step_size:g}", "a length is positive", "leave it out for one that fits")
        for name in ("gate", "stop"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name):g}", "a share of the clean images, 0 to 1")

    @property
    def off(self) -> bool:
        """Whether nothing is done at all."""
        return self.steps == 0 and self.start != "guess"

    @property
    def sizes(self) -> list[float]:
        """The length of each step."""
        first = 2.5 * self.budget / max(self.steps, 1) if self.step_size is None else self.step_size
        shares = [step / max(self.steps, 1) for step in range(self.steps)]
        if self.schedule == "constant":
            return [first for _ in shares]
        return [first * (1 - s if self.schedule == "linear" else (1 + math.cos(math.pi * s)) / 2) for s in shares]

    @property
    def averaged(self) -> int:
        """Over how many of the last iterates the mean is taken."""
        return self.steps - self.steps // 2

    def but(self, **changes: Any) -> Repair:
        return dataclasses.replace(self, **changes)


@dataclass
class Repaired:
    """What a repair has made of images, and what it took."""

    images: Tensor  # (N, C, H, W)
    steps: Tensor  # (N,) taken
    path: list[Tensor]  # every iterate, the image itself first, if it was asked for: (N, C, H, W) each


def repair(
    images: Tensor,
    objective: Objective,
    backbone: Backbone,
    how: Repair,
    draws: Draws | None = None,
    guess: Tensor | None = None,
    keep_path: bool = False,
) -> Repaired:
    """Minimise the losses of all tasks over what may be added to each image; no parameter must need a gradient.

    With `draws` views and starts are drawn for each image; without, all meet the same. `guess` (N, C, H, W) is what is
    added to begin with, where the start is guessed. Call it with gradients enabled.
    """
    clean = images.detach().clone()
    ball = Ball.around(norm_named(how.norm), clean, per_image(how.budget, clean))
    delta = beginning(how, ball, draws, guess)
    active = torch.arange(len(clean), device=clean.device)  # those that are not done
    taken, sizes = torch.zeros_like(active), torch.as_tensor(how.sizes).to(clean)
    best, lowest = clean.clone(), torch.full_like(taken, torch.inf, dtype=torch.float32)
    path, late = [clean], list[Tensor]()

    def losses_here() -> tuple[Tensor, Tensor, Tensor]:
        """Point, gradient and losses of those that are not done, with the draws of this step."""
        point = (clean[active] + delta[active]).clamp_(0, 1).requires_grad_()
        drawn = drawn_for(step, objective, None if draws is None else draws.take(active))
        gradient, losses = objective.descent(backbone, point, drawn, how.weights, how.combine)
        return point.detach(), gradient, losses.detach()

    def offer(point: Tensor, losses: Tensor) -> None:
        total = objective.standardised(losses).sum(1)
        better = total < lowest[active]
        best[active[better]], lowest[active[better]] = point[better], total[better].to(lowest.dtype)

    if how.gate and not how.off:
        with torch.no_grad():
            losses = objective.losses(backbone, clean, drawn_for(0, objective, draws))
        natural = objective.below(losses, how.gate)
        delta[natural] = 0
        active = active[~natural]
    for step in range(how.steps):
        if len(active):
            point, gradient, losses = losses_here()
            if how.output == "best":
                offer(point, losses)
            if how.stop:
                goes_on = ~objective.below(losses, how.stop)
                active, gradient = active[goes_on], gradient[goes_on]
            delta[active] = ball.take(active).step(delta[active], -gradient, sizes[step].expand(len(active)))
            taken[active] += 1
        if keep_path or (how.output == "mean" and step >= how.steps // 2):
            late.append((clean + delta).clamp_(0, 1))
    found = (clean + delta).clamp_(0, 1)
    if how.output == "mean" and how.steps:
        found = torch.stack(late[-how.averaged :]).mean(0)
    elif how.output == "best" and how.steps:
        step = how.steps - 1
        if len(active):
            point, _, losses = losses_here()  # of where the last step led, by the draws that it was made with
            offer(point, losses)
        found = torch.where((lowest < torch.inf).view(-1, 1, 1, 1), best, found)
    return Repaired(found, taken, [*path, *late] if keep_path else [])


def drawn_for(step: int, objective: Objective, draws: Draws | None) -> list[Any]:
    """What the tasks meet at this step."""
    return objective.fixed(step) if draws is None else objective.draw(draws.of(f"step {step}"))


def beginning(how: Repair, ball: Ball, draws: Draws | None, guess: Tensor | None = None) -> Tensor:
    """Where a repair starts, as what is added to each image."""
    if how.start == "guess":
        assert guess is not None  # whoever has a network for it
        return ball.norm.project(guess.clone(), ball.eps, ball.low, ball.high)
    if how.start == "zero" or not how.steps:
        return torch.zeros_like(ball.low)
    if draws is not None:
        return ball.norm.random(draws.of("start"), ball.eps, ball.low, ball.high)
    same = Draws(0, [0] * len(ball.low), "self-supervision")  # the same noise for all: each image alone meets it too
    return ball.norm.random(same.of("start"), ball.eps, ball.low, ball.high)
