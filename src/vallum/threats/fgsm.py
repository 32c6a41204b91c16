"""The fast gradient sign method, Goodfellow et al. 2015 (arXiv 1412.6572), for any norm: one gradient, one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.losses import LossName, loss_named
from vallum.threats.norms import at_least_float32, farthest, norm_named, per_image
from vallum.threats.search import frozen
from vallum.threats.slope import slope_of


@THREATS.register("fgsm")
@dataclass(frozen=True)
class FGSM(Bounded):
    """One steepest step as long as the radius; the cheapest attack, and the weakest.

    >>> FGSM(eps=8 / 255).spec
    'fgsm:eps=8/255'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1", "0"] = parameter("in which the radius is measured", "inf")
    loss: LossName = parameter("what is raised", "cross_entropy")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    random_start: bool = parameter("start at a random point of the ball, not at the image", False)
    seed: int = parameter("of the random start", 0)

    needs_gradient: ClassVar[bool] = True

    @property
    def passes(self) -> float:
        return 3.0

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, loss, draws = norm_named(self.norm), loss_named(self.loss), self.draws(images, keys)
        with frozen(model):
            clean, labels = images.detach().clone(), labels.clone()  # they may be inference tensors
            eps, low, high = per_image(self.eps, clean), -clean, 1 - clean
            delta = norm.random(draws, eps, low, high) if self.random_start else torch.zeros_like(clean)
            point = (clean + delta).clamp(0, 1).requires_grad_()
            values = loss(model(point), labels)
            uphill = slope_of(-values if self.targeted else values, point)
            if self.norm == "2" and not self.random_start:  # the best of ball and box is known
                delta = farthest(uphill.to(at_least_float32(uphill)), eps, low, high).to(clean.dtype)
            else:
                step = norm.steepest(uphill, eps, low - delta, high - delta)
                delta = norm.project(delta + step, eps, low, high)
            return (clean + delta).clamp(0, 1)
