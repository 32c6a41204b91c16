"""Sigma-zero, Cinà et al. 2025 (arXiv 2402.01879): the fewest values to change so that an image falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vallum.specs import parameter
from vallum.threats.base import THREATS, check_each, is_share, positive
from vallum.threats.losses import loss_named
from vallum.threats.minimal import SHARE, Minimal, annealed
from vallum.threats.norms import at_least_float32, norm_named
from vallum.threats.search import frozen
from vallum.threats.slope import no_gradient, slope_of


@THREATS.register("sigma_zero")
@dataclass(frozen=True)
class SigmaZero(Minimal):
    """Descend on the margin and on a smooth count of changed values, and put small changes back to nothing.

    >>> SigmaZero(steps=200).spec
    'sigma_zero:steps=200'
    """

    steps: int = parameter("points looked at, a forward and a backward pass each", 100)
    step_size: float = parameter("of the first step; the last is a tenth of it", 1.0)
    sigma: float = parameter("how sharp the count is: a change of its root counts half", 1e-3)
    threshold: float = parameter("below which a change is undone, at first", 0.3)
    threshold_step: float = parameter("by which that moves, up while the image has fallen", 0.01)
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    share: float = parameter(SHARE, 0.99)
    seed: int = parameter("of nothing: the search begins at the image", 0, hidden=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each(self, positive, "above 0 and finite", "step_size", "sigma")
        check_each(self, is_share, "images are in [0, 1]: between 0 and 1", "threshold", "threshold_step")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        loss, sign = loss_named("margin"), -1.0 if self.targeted else 1.0
        with frozen(model):
            best = self.begin(images, labels, keys, norm_named("0"))
            clean, low, high = best.clean, best.low, best.high
            delta = torch.zeros_like(clean)
            precision = at_least_float32(clean)
            threshold = torch.full((len(clean),), self.threshold, dtype=clean.dtype, device=clean.device)
            for step in range(self.steps):
                moved = delta.clone().requires_grad_()
                point = (clean + moved).clamp(0, 1)
                logits = model(point)
                falls = best.offer(point.detach(), logits.detach())
                if step == self.steps - 1:
                    break  # where one more step would lead, nobody would look
                lacks = (-sign * loss(logits, best.wanted(logits))).clamp_min(0)
                if not lacks.requires_grad:  # which the count would hide
                    raise no_gradient()
                square = moved.square()
                count = (square / (square + self.sigma)).flatten(1).mean(1)
                gradient = slope_of(-(lacks.sum() + count.sum()), moved, box=(low, high))
                stride = annealed(self.step_size, self.step_size / 10, step, self.steps)
                largest = gradient.abs().flatten(1).amax(1).to(precision).clamp_min(1e-12)
                delta = gradient.mul_((stride / largest).view(-1, 1, 1, 1)).add_(delta).clamp_(low, high)
                shift = self.threshold_step * stride
                threshold = torch.where(falls, threshold + shift, threshold - shift).clamp(0, 1)
                delta *= delta.abs() >= threshold.view(-1, 1, 1, 1)
            return best.images
