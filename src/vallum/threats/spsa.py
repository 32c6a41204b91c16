"""Simultaneous perturbation, Uesato et al. 2018 (arXiv 1802.05666): ascent along slopes that are only felt for.

The loss a little ahead of the image and a little behind, in directions of random signs, estimates the gradient. It
sees logits and nothing else, so that neither a gradient that vanishes nor one that misleads stops it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.losses import Loss, loss_named
from vallum.threats.norms import norm_named, per_image
from vallum.threats.search import Best

ROWS = 256  # images in one pass


@THREATS.register("spsa")
@dataclass(frozen=True)
class SPSA(Bounded):
    """Steepest steps along a running sum of estimated gradients; needs no gradient of the model.

    The paper lets Adam take the steps; in a ball, steepest ones reach farther with the same queries.

    >>> SPSA(eps=8 / 255, directions=32).spec
    'spsa:eps=8/255,directions=32'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("how often an image is moved", 40)
    directions: int = parameter("in which each step feels for the slope, two forward passes each", 64)
    probe: float = parameter("how far ahead and behind, in each value of the image", 0.01)
    step_size: float | None = parameter("length of a step; none: 2.5 * eps / steps", None)
    decay: float = parameter("what is left of earlier estimates at each step", 0.9)
    loss: Literal["margin", "cross_entropy", "dlr"] = parameter("what is raised", "margin")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the directions", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.directions < 1:
            raise UserError(f"directions={self.directions}", "at least 1 is needed")
        if not 0 < self.probe < 0.5:
            raise UserError(f"probe={self.probe:g}", "images are in [0, 1]: between 0 and a half", "write probe=0.01")
        if not 0 <= self.decay <= 1:
            raise UserError(f"decay={self.decay:g}", "a share, between 0 and 1")

    @property
    def passes(self) -> float:
        return self.steps * (2.0 * self.directions + 1) + 1

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, sign, draws = norm_named(self.norm), -1.0 if self.targeted else 1.0, self.draws(images, keys)
        best = Best(images, labels, self.targeted)
        images, loss = images.detach(), loss_named(self.loss)
        radii = per_image(self.eps, images)
        sizes = radii * 2.5 / self.steps if self.step_size is None else torch.full_like(radii, self.step_size)
        which, clean, label, eps, size = best.everyone(), images, labels, radii, sizes
        delta, velocity = torch.zeros_like(clean), torch.zeros_like(clean)
        for step in range(self.steps + 1):
            point = (clean + delta).clamp(0, 1)
            logits = model(point)
            best.offer(which, point, logits, sign * loss(logits, label))
            if step == self.steps:
                break
            if self.early_stop and bool((gone := best.has_fallen[which]).any()):
                which, clean, label, eps, size, delta, velocity, point = (
                    t[~gone] for t in (which, clean, label, eps, size, delta, velocity, point)
                )
            if not len(which):
                break
            slope = sign * self.slope(model, loss, point, label, draws.take(which).of(f"step {step}"))
            velocity = velocity * self.decay + slope
            ahead = delta + norm.steepest(velocity, size, -clean - delta, 1 - clean - delta)
            delta = norm.project(ahead, eps, -clean, 1 - clean)
        return best.images

    def slope(self, model: nn.Module, loss: Loss, point: Tensor, labels: Tensor, draws: Draws) -> Tensor:
        """An estimate of the gradient: each direction times how much the loss rises along it."""
        signs = random_signs(draws, self.directions, point)  # (n, directions, C, H, W)
        middle = point.clamp(self.probe, 1 - self.probe)  # so that both ends are images
        slope = torch.zeros_like(point)
        at_once = max(1, ROWS // (2 * len(point)))
        for some in signs.split(at_once, 1):
            step = some * self.probe
            ends = torch.stack([middle[:, None] + step, middle[:, None] - step], 1)  # (n, 2, k, C, H, W)
            many = labels.repeat_interleave(2 * some.shape[1], 0)
            values = loss(model(ends.flatten(0, 2)), many).view(len(point), 2, -1)
            rises = (values[:, 0] - values[:, 1]).nan_to_num(0, 0, 0).to(point.dtype)  # (n, k)
            for j in range(some.shape[1]):  # one after the other: the sum is the same whatever the batch
                slope += rises[:, j].view(-1, 1, 1, 1) * some[:, j]
        return slope / (2 * self.probe * self.directions)


def random_signs(draws: Draws, count: int, like: Tensor) -> Tensor:
    """(N, count, C, H, W) of -1 and 1, a random bit each."""
    size = count * like[0].numel()
    bits = [np.unpackbits(np.frombuffer(s.bytes(-(-size // 8)), np.uint8), count=size) for s in draws.each("signs")]
    signs = torch.from_numpy(np.stack(bits)).to(like.device)
    return (signs.to(like.dtype) * 2 - 1).view(-1, count, *like.shape[1:])
