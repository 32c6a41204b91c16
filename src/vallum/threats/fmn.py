"""Fast minimum norm, Pintor et al. 2021 (arXiv 2102.12827): the nearest image that falls, in any norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vallum.specs import parameter
from vallum.threats.base import THREATS, check_each, positive
from vallum.threats.losses import loss_named
from vallum.threats.minimal import SHARE, Minimal, Nearest, annealed
from vallum.threats.norms import norm_named
from vallum.threats.search import frozen
from vallum.threats.slope import slope_of

HAIR = 1e-3
DUAL = {"inf": "1", "2": "2", "1": "inf"}  # how long a gradient is to one who moves by so much in a norm


@THREATS.register("fmn")
@dataclass(frozen=True)
class FMN(Minimal):
    """Climb inside a ball whose radius follows the boundary: guessed from the slope first, then closed in on.

    >>> FMN(norm="1").spec
    'fmn:norm=1'
    """

    norm: Literal["inf", "2", "1", "0"] = parameter("in which the distance is measured", "2")
    steps: int = parameter("points looked at, a forward and a backward pass each", 100)
    step_size: float = parameter("length of the first step, in the norm 2; the last is a hundredth of it", 1.0)
    change: float = parameter("of the radius per step, as a share of it, at first; a fiftieth of it at last", 0.05)
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    share: float = parameter(SHARE, 0.99)
    seed: int = parameter("of nothing: the search begins at the image", 0, hidden=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_each(self, positive, "a length is positive", "step_size")
        check_each(self, lambda share: 0 < share < 1, "a share of the radius, between 0 and 1", "change")

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        norm, loss, sign = norm_named(self.norm), loss_named("margin"), -1.0 if self.targeted else 1.0
        with frozen(model):
            best = self.begin(images, labels, keys, norm)
            clean, low, high = best.clean, best.low, best.high
            delta = torch.zeros_like(clean)
            radius = torch.full((len(clean),), torch.inf, dtype=torch.float64, device=clean.device)
            for step in range(self.steps):
                point = (clean + delta).clamp_(0, 1).requires_grad_()
                logits = model(point)
                falls = best.offer(point.detach(), logits.detach())
                if step == self.steps - 1:
                    break  # where one more step would lead, nobody would look
                values = sign * loss(logits, best.wanted(logits))
                gradient = slope_of(values, point)
                change = annealed(self.change, self.change / 50, step, self.steps)
                radius = self._follow(radius, change, falls, best, values.detach().nan_to_num(), gradient, delta)
                stride = torch.full((len(clean),), annealed(self.step_size, self.step_size / 100, step, self.steps))
                delta = norm_named("2").steepest(gradient, stride.to(clean), low, high).add_(delta)
                delta = norm.project(delta, radius.to(clean.dtype), low, high)
            return best.images

    def _follow(
        self,
        radius: Tensor,
        change: float,
        falls: Tensor,
        best: Nearest,
        values: Tensor,
        gradient: Tensor,
        delta: Tensor,
    ) -> Tensor:
        """The next radius: within what is known to suffice, beyond what does not."""
        if self.norm == "0":
            begun = torch.where(radius.isinf(), 0, radius)
            closer = torch.minimum((begun * (1 - change)).floor().minimum(begun - 1), best.distance).clamp_min(0)
            farther = (begun * (1 + change)).floor().maximum(begun + 1)
            # While none is known: as many more as would do if each went all the way to the box and the slope stayed.
            room = torch.where(gradient > 0, best.high - delta, best.low - delta)
            gains = (gradient * room).flatten(1).double().sort(1, descending=True)[0].cumsum(1)
            guessed = best.length + (gains < values.abs().double()[:, None]).sum(1) + 1
            farther = torch.where(best.distance.isfinite(), farther, farther.maximum(guessed))
            return torch.where(falls, closer, farther)
        room = torch.where(gradient > 0, best.high - delta, delta - best.low)  # what cannot move adds no slope
        slope = norm_named(DUAL[self.norm]).length(gradient * (room > 0)).clamp_min(1e-12)
        # Beyond the boundary, not upon it: by a hair, but of a mask's last pixels to where the next one falls.
        guessed = (best.length + values.abs().double() / slope) * (1 + (change if best.labels.ndim > 1 else HAIR))
        closer = torch.minimum(radius * (1 - change), best.distance)
        farther = torch.where(best.distance.isfinite(), radius * (1 + change), guessed)
        return torch.where(falls, closer, farther)
