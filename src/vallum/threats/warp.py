"""Smooth warps, after Xiao et al. 2018 (arXiv 1801.02612, stAdv): pixels stay what they are and go elsewhere.

Where each pixel is read from is a field of small moves between control points, climbed by signed steps. The paper asks
for smooth fields by a penalty; here a field cannot be rough, and none of its moves is longer than the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.specs import parameter
from vallum.threats.base import THREATS, Threat
from vallum.threats.losses import loss_named
from vallum.threats.minimal import annealed
from vallum.threats.search import Best, frozen
from vallum.threats.slope import slope_of
from vallum.threats.spatial import read


@THREATS.register("warp", "stadv")
@dataclass(frozen=True)
class Warp(Threat):
    """Every pixel moved by a little, with its neighbours; masks are moved along.

    >>> Warp(reach=1.5).spec
    'warp:reach=1.5'
    """

    reach: float = parameter("how far a pixel may move at most, in pixels, down or up and to either side")
    spacing: int = parameter("of the control points between which the field is even, in pixels", 4)
    steps: int = parameter("forward and backward passes per restart", 20)
    restarts: int = parameter("random fields to begin with; the first begins at none", 1)
    loss: Literal["margin", "cross_entropy", "dlr"] = parameter("what is raised", "margin")
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the fields that later restarts begin with", 0)

    kind = "attack"
    needs_gradient: ClassVar[bool] = True
    moves_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.reach < float("inf"):
            raise UserError(f"reach={self.reach:g}", "a number of pixels", "write warp:reach=1")
        for name in ("spacing", "steps", "restarts"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}", "at least 1 is needed")

    @property
    def passes(self) -> float:
        return self.restarts * (3.0 * self.steps + 1)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.with_labels(model, images, labels, keys)[0]

    def with_labels(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        draws, loss = self.draws(images, keys), loss_named(self.loss)
        points = [-(-side // self.spacing) + 1 for side in images.shape[2:]]
        with frozen(model):
            images, labels = images.detach().clone(), labels.clone()
            best = Best(images, labels.clone(), targeted=False)
            for restart in range(self.restarts):
                which = best.standing() if self.early_stop else best.everyone()
                if not len(which):
                    break
                clean, label = images[which], labels[which]
                field = torch.zeros(len(which), 2, *points, dtype=clean.dtype, device=clean.device)
                if restart:
                    start = draws.take(which).of(f"restart {restart}")
                    field = (
                        start.uniform(2, *points, purpose="start", device=clean.device).to(clean) * 2 - 1
                    ) * self.reach
                for step in range(self.steps + 1):
                    last = step == self.steps
                    field = field.requires_grad_(not last)
                    with torch.set_grad_enabled(not last):
                        point, seen = warped(clean, label, field)
                        logits = model(point)
                        values = loss(logits, seen)
                    best.offer(which, point.detach(), logits.detach(), values.detach(), seen)
                    stays = ~best.has_fallen[which] if self.early_stop else torch.ones_like(which, dtype=torch.bool)
                    if last or not bool(stays.any()):
                        break
                    gradient = slope_of(values, field, box=None)
                    which, clean, label = which[stays], clean[stays], label[stays]
                    stride = annealed(self.reach / 2, self.reach / 20, step, self.steps)
                    field = (field.detach() + stride * gradient.sign())[stays].clamp(-self.reach, self.reach)
        return best.images, best.labels


def warped(images: Tensor, labels: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
    """Images and masks read where a field (N, 2, h, w) of moves down and to the right, spread over them, says."""
    height, width = images.shape[2:]
    down, right = F.interpolate(field, (height, width), mode="bilinear", align_corners=True).unbind(1)  # (N, H, W)
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None]
    columns = torch.arange(width, device=images.device, dtype=images.dtype)[None]
    return read(images, labels, rows + down, columns + right, border="mirror")
