"""Projected gradient descent, Madry et al. 2018 (arXiv 1706.06083), for any norm and loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.losses import LossName, at_progress, loss_named
from vallum.threats.norms import Ball, norm_named, per_image
from vallum.threats.search import Best, frozen
from vallum.threats.segmentation_losses import rank_of
from vallum.threats.slope import slope_of


@THREATS.register("pgd")
@dataclass(frozen=True)
class PGD(Bounded):
    """Steepest ascent on the loss, projected onto the ball and the box after each step.

    >>> attack = PGD(eps=8 / 255, steps=10)
    >>> attack.spec
    'pgd:eps=8/255,steps=10'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1", "0"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("forward and backward passes per restart", 40)
    step_size: float | None = parameter("length of a step; none: 2.5 * eps / steps", None)
    restarts: int = parameter("random starts; an image keeps the best that any found", 1)
    loss: LossName = parameter("what is raised", "cross_entropy")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    random_start: bool | None = parameter(
        "start at a random point of the ball, not at the image; none: but for the first start in the norm 0", None
    )
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the random starts", 0)

    needs_gradient: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        return self.restarts * (3.0 * self.steps + 1)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, loss = norm_named(self.norm), loss_named(self.loss)
        draws = self.draws(images, keys)

        with frozen(model):
            best = Best(images, labels, self.targeted, rank=rank_of(self.loss))
            images, labels = images.detach(), labels.clone()  # which may have been made in inference mode
            radii = per_image(self.eps, images)
            sizes = radii * 2.5 / self.steps if self.step_size is None else torch.full_like(radii, self.step_size)
            for restart in range(self.restarts):
                standing = best.standing() if self.early_stop else best.everyone()
                if len(standing) == 0:
                    break
                whole = len(standing) == len(images)
                clean, label, eps, size = (
                    t if whole else t[standing] for t in (images, labels, radii, sizes)
                )  # (n, C, H, W), (n,), (n,), (n,)
                ball = Ball.around(norm, clean, eps)
                delta = torch.zeros_like(clean)
                # In the norm 0 random values would take the places of better ones, and a step seldom wins them back.
                random = self.norm != "0" or restart > 0 if self.random_start is None else self.random_start
                if random:
                    draw = draws.take(standing).of(f"restart {restart}")
                    delta = norm.random(draw, eps, ball.low, ball.high)
                for step in range(self.steps + 1):  # the last pass only looks at where the last step led
                    last = step == self.steps
                    point = (clean + delta).clamp_(0, 1).requires_grad_(not last)
                    with torch.set_grad_enabled(not last):
                        logits = model(point)
                        values = at_progress(loss, step / self.steps)(logits, label)  # (n,)
                        values = -values if self.targeted else values
                    best.offer(standing, point.detach(), logits.detach(), values.detach())
                    if last:
                        break
                    stays = ~best.has_fallen[standing] if self.early_stop else None
                    if stays is not None and not stays.any():
                        break
                    gradient = slope_of(values, point)
                    if stays is not None and not stays.all():
                        standing, clean, label, size = (t[stays] for t in (standing, clean, label, size))
                        delta, gradient, ball = delta[stays], gradient[stays], ball.take(stays)
                    delta = ball.step(delta, gradient, size)
        return best.images
