"""Projected Adam, Halmosi et al. 2024 (arXiv 2407.09150): each value of a perturbation at a pace of its own.

Where a gradient is faint but steady, as over pixels that are almost lost or hardly touched, a step divided by how large
gradients usually are there goes as far as anywhere else. Theirs raises the cosine between answer and label, or
cross-entropy; here it is any loss, and steps shrink along half a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.losses import LossName, at_progress, loss_named
from vallum.threats.minimal import annealed
from vallum.threats.norms import Ball, at_least_float32, norm_named, per_image
from vallum.threats.search import Best, frozen
from vallum.threats.segmentation_losses import rank_of
from vallum.threats.slope import slope_of

MEAN, SQUARE, TINY = 0.9, 0.999, 1e-12  # of the past that running means keep, as ever; nothing is divided by 0


@THREATS.register("padam")
@dataclass(frozen=True)
class PAdam(Bounded):
    """Adam on the perturbation, with the largest running square (AMSGrad), projected onto ball and box.

    >>> PAdam(eps=1 / 255, loss="cosine_cross_entropy").spec
    'padam:eps=1/255,loss=cosine_cross_entropy'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("forward and backward passes", 100)
    step_size: float | None = parameter("of a value, at first; the last is a hundredth; none: as fits the radius", None)
    loss: LossName = parameter("what is raised", "cross_entropy")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the random start", 0)

    needs_gradient: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        return 3.0 * self.steps + 1

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, loss, sign = norm_named(self.norm), loss_named(self.loss), -1.0 if self.targeted else 1.0
        draws = self.draws(images, keys)
        with frozen(model):
            best = Best(images, labels, self.targeted, rank=rank_of(self.loss))
            clean, label, which = images.detach(), labels.clone(), best.everyone()
            eps = per_image(self.eps, images)
            # Half the radius to a value; in the norm 2 that of a perturbation in which all values are alike.
            size = eps / 2 if norm.name == "inf" else eps / 2 / max(clean[:1].numel(), 1) ** 0.5
            size = size if self.step_size is None else torch.full_like(eps, self.step_size)  # (n,)
            ball = Ball.around(norm, clean, eps)
            delta = norm.random(draws, eps, -clean, 1 - clean)
            precision = at_least_float32(clean)
            mean, square, largest = (torch.zeros_like(clean, dtype=precision) for _ in range(3))
            for step in range(self.steps + 1):  # the last pass only looks at where the last step led
                last = step == self.steps
                point = (clean + delta).clamp_(0, 1).requires_grad_(not last)
                with torch.set_grad_enabled(not last):
                    logits = model(point)
                    values = sign * at_progress(loss, step / self.steps)(logits, label)  # (n,)
                best.offer(which, point.detach(), logits.detach(), values.detach())
                if last:
                    break
                gradient = slope_of(values, point).to(precision)
                if self.early_stop and bool((gone := best.has_fallen[which]).any()):
                    which, clean, label, size, delta, mean, square, largest, gradient = (
                        t[~gone] for t in (which, clean, label, size, delta, mean, square, largest, gradient)
                    )
                    ball = ball.take(~gone)
                if not len(which):
                    break
                mean = mean * MEAN + gradient * (1 - MEAN)
                square = square * SQUARE + gradient.square() * (1 - SQUARE)
                largest = largest.maximum(square)
                ahead = mean / (1 - MEAN ** (step + 1)) / ((largest / (1 - SQUARE ** (step + 1))).sqrt() + TINY)
                stride = size.view(-1, 1, 1, 1) * annealed(1.0, 0.01, step, self.steps)
                delta = ball.project(delta + (ahead * stride).to(delta.dtype))
        return best.images
