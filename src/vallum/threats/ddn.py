"""Decoupled direction and norm, Rony et al. 2019 (arXiv 1811.09600): the nearest image that falls, in the norm 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vallum.specs import parameter
from vallum.threats.base import THREATS, check_each, positive
from vallum.threats.losses import loss_named
from vallum.threats.minimal import SHARE, Minimal, annealed
from vallum.threats.norms import at_least_float32, norm_named
from vallum.threats.search import frozen
from vallum.threats.slope import slope_of


@THREATS.register("ddn")
@dataclass(frozen=True)
class DDN(Minimal):
    """Follow the gradient on a sphere that shrinks while the image has fallen and grows while it stands.

    >>> DDN(steps=50).spec
    'ddn:steps=50'
    """

    steps: int = parameter("points looked at, a forward and a backward pass each", 100)
    first_radius: float = parameter("of the sphere", 1.0)
    change: float = parameter("of the radius per step, as a share of it", 0.05)
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    share: float = parameter(SHARE, 0.99)
    seed: int = parameter("of nothing: the search begins at the image", 0, hidden=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each(self, positive, "a length is positive", "first_radius")
        check_each(self, lambda share: 0 < share < 1, "a share of the radius, between 0 and 1", "change")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, loss, sign = norm_named("2"), loss_named("cross_entropy"), -1.0 if self.targeted else 1.0
        with frozen(model):
            best = self.begin(images, labels, keys, norm)
            clean, low, high = best.clean, best.low, best.high
            delta = torch.zeros_like(clean)
            radius = torch.full((len(clean),), self.first_radius, dtype=clean.dtype, device=clean.device)
            farthest = norm.length(torch.maximum(clean, high)).to(radius)  # the box's far corner
            for step in range(self.steps):
                point = (clean + delta).clamp_(0, 1).requires_grad_()
                logits = model(point)
                falls = best.offer(point.detach(), logits.detach())
                if step == self.steps - 1:
                    break  # where one more step would lead, nobody would look
                gradient = slope_of(sign * loss(logits, best.wanted(logits)), point)
                stride = torch.full_like(radius, annealed(1.0, 0.01, step, self.steps))
                delta = norm.steepest(gradient, stride, low, high).add_(delta)
                radius = torch.where(falls, radius * (1 - self.change), radius * (1 + self.change)).minimum(farthest)
                length = norm.length(delta).clamp_min(1e-12).to(at_least_float32(radius))
                delta = delta.mul_((radius / length).view(-1, 1, 1, 1)).clamp_(low, high)
            return best.images
