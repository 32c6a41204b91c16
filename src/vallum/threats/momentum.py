"""Attacks made to transfer: momentum, Dong et al. 2018 (arXiv 1710.06081), diverse inputs, Xie et al. 2019 (arXiv
1803.06978), and smoothed gradients, Dong et al. 2019 (arXiv 1904.02884).

What is found is the last point, not the best on this model: another one is meant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.corruptions.filters import gaussian_blur
from vallum.threats.losses import LossName, at_progress, loss_named
from vallum.threats.norms import at_least_float32, norm_named, per_image
from vallum.threats.search import frozen
from vallum.threats.slope import slope_of

SMALLEST = 1 / 1.1  # the share of the frame that a diverse input fills at least


@THREATS.register("momentum", "mi_fgsm")
@dataclass(frozen=True)
class Momentum(Bounded):
    """Steps along a decaying sum of normalised gradients, perhaps of images shrunk and shifted at random.

    >>> Momentum(eps=8 / 255, diversity=0.5).spec
    'momentum:eps=8/255,diversity=0.5'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1", "0"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("forward and backward passes", 10)
    step_size: float | None = parameter("length of a step; none: eps / steps", None)
    decay: float = parameter("what is left of the past at each step", 1.0)
    diversity: float = parameter("how often the model is shown a shrunk and shifted image, as a probability", 0.0)
    translation: float = parameter("over how many pixels a gradient is smoothed, as if of shifted images", 0.0)
    loss: LossName = parameter("what is raised", "cross_entropy")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    seed: int = parameter("of the diverse inputs", 0)

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.diversity <= 1:
            raise UserError(f"diversity={self.diversity:g}", "a probability, between 0 and 1")
        if not 0 <= self.decay < float("inf"):
            raise UserError(f"decay={self.decay:g}", "what is left of the past is not negative")
        if not 0 <= self.translation < float("inf"):
            raise UserError(f"translation={self.translation:g}", "a number of pixels, as 3")

    @property
    def passes(self) -> float:
        return 3.0 * self.steps

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        with frozen(model):
            return deque(self.points(model, images, labels, self.draws(images, keys)), maxlen=1).pop()

    def points(
        self, model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, draws: Draws
    ) -> Iterator[Tensor]:
        """Where each step leads, one after the other."""
        norm, loss = norm_named(self.norm), loss_named(self.loss)
        sign = -1.0 if self.targeted else 1.0
        clean, labels = images.detach().clone(), labels.clone()  # they may be inference tensors
        eps, low, high = per_image(self.eps, clean), -clean, 1 - clean
        size = eps / self.steps if self.step_size is None else torch.full_like(eps, self.step_size)
        precision = at_least_float32(clean)
        delta, velocity = torch.zeros_like(clean), torch.zeros_like(clean, dtype=precision)
        for step in range(self.steps):
            point = (clean + delta).clamp(0, 1).requires_grad_()
            shown, where = point, labels
            if self.diversity:
                shown, where = diverse(point, labels, self.diversity, draws.of(f"step {step}"))
            values = sign * at_progress(loss, step / self.steps)(model(shown), where)
            gradient = slope_of(values, point)
            if self.translation:
                gradient = gaussian_blur(gradient, self.translation, "reflect")
            length = gradient.flatten(1).double().abs().mean(1).clamp_min(1e-30).to(precision)
            velocity = velocity * self.decay + gradient / length.view(-1, 1, 1, 1)
            ahead = delta + norm.steepest(velocity, size, low - delta, high - delta).to(delta.dtype)
            delta = norm.project(ahead, eps, low, high)
            yield (clean + delta).clamp(0, 1)


def diverse(images: Tensor, labels: Tensor, probability: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Each image shrunk a little and put somewhere in a black frame, or left as it is; masks go along."""
    device, (height, width) = images.device, images.shape[2:]
    chance, shrink, right, down = (
        draws.uniform(4, purpose="diverse", device=device).to(images.dtype).view(-1, 4, 1, 1).unbind(1)
    )  # (N, 1, 1) each
    scale = torch.where(chance < probability, SMALLEST + (1 - SMALLEST) * shrink, 1.0)
    across = (torch.arange(width, device=device, dtype=images.dtype) * 2 + 1) / width - 1
    along = (torch.arange(height, device=device, dtype=images.dtype) * 2 + 1) / height - 1
    x = (across.view(1, 1, -1) - (right * 2 - 1) * (1 - scale)) / scale  # (N, 1, W)
    y = (along.view(1, -1, 1) - (down * 2 - 1) * (1 - scale)) / scale  # (N, H, 1)
    grid = torch.stack([x.expand(-1, height, -1), y.expand(-1, -1, width)], 3)  # (N, H, W, 2)
    shown = F.grid_sample(images, grid, align_corners=False)
    if labels.ndim == 1:
        return shown, labels
    beyond_frame = labels[:, None].to(images.dtype) - IGNORE  # which is 0 where there is no label, as outside
    moved = F.grid_sample(beyond_frame, grid, mode="nearest", align_corners=False)[:, 0] + IGNORE
    return shown, moved.round().to(labels.dtype)
