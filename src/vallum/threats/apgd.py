"""Auto-PGD, Croce & Hein 2020 (arXiv 2003.01690) and 2021 (arXiv 2103.01208): a climb that sets its own pace.

`apgd` raises one loss; `apgd_targeted` drives each image, one after the other, towards the classes that are nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.climb import Objective, Rank, Rows, climb_through, phases
from vallum.threats.losses import SteadyLoss, guided_loss_named, loss_named, margin
from vallum.threats.norms import norm_named, per_image
from vallum.threats.search import Best, frozen
from vallum.threats.segmentation_losses import rank_of


class Climbs(Bounded):
    """What both have in common: starts, restarts, and the larger balls that a climb may begin in."""

    steps: int
    restarts: int
    large_first: bool | None
    early_stop: bool

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.large_first and len(self.phases) == 1:
            raise UserError(f"large_first with steps={self.steps}", "three balls need 10 steps", "take more steps")

    @property
    def phases(self) -> list[tuple[float, int]]:
        large = self.norm == "1" if self.large_first is None else self.large_first
        return phases(self.steps, norm_named(self.norm), large)

    def climb_from_random(
        self,
        model: nn.Module,
        best: Best,
        images: Tensor,
        aims: Tensor,
        objective: Objective,
        rank: Rank | None,
        draws: Draws,
    ) -> None:
        standing = best.standing() if self.early_stop else best.everyone()
        if not len(standing):
            return
        norm, clean, eps = norm_named(self.norm), images[standing], per_image(self.eps, images)[standing]
        delta = norm.random(draws.take(standing), eps * self.phases[0][0], -clean, 1 - clean)
        rows = Rows.begin(standing, clean, best.labels[standing], aims[standing], eps, delta)
        climb_through(model, best, rows, self.phases, norm, objective, rank, self.early_stop)


@THREATS.register("apgd")
@dataclass(frozen=True)
class APGD(Climbs):
    """Auto-PGD on one loss.

    >>> APGD(eps=8 / 255, loss="dlr").spec
    'apgd:eps=8/255,loss=dlr'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("forward and backward passes per restart", 100)
    restarts: int = parameter("random starts; an image keeps the best that any found", 1)
    loss: SteadyLoss = parameter("what is raised", "cross_entropy")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    large_first: bool | None = parameter("begin in larger balls; none: where the norm is 1", None)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the random starts", 0)

    @property
    def passes(self) -> float:
        return self.restarts * (3.0 * self.steps + len(self.phases))

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        loss, draws = loss_named(self.loss), self.draws(images, keys)
        sign = -1.0 if self.targeted else 1.0

        def objective(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
            return sign * loss(logits, labels)

        with frozen(model):
            best = Best(images, labels, self.targeted)
            for restart in range(self.restarts):
                self.climb_from_random(
                    model, best, images.detach(), labels, objective, rank_of(self.loss), draws.of(f"restart {restart}")
                )
        return best.images


@THREATS.register("apgd_targeted")
@dataclass(frozen=True)
class TargetedAPGD(Climbs):
    """Auto-PGD towards each of the nearest classes in turn; an image has fallen when it leaves its own.

    >>> TargetedAPGD(eps=8 / 255, classes=3).spec
    'apgd_targeted:eps=8/255,classes=3'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("forward and backward passes per class", 100)
    classes: int = parameter("how many to try, those of the highest logits first; as many as there are at most", 9)
    restarts: int = parameter("random starts per class", 1)
    loss: Literal["dlr", "margin", "cross_entropy"] = parameter("what is raised", "dlr")
    large_first: bool | None = parameter("begin in larger balls; none: where the norm is 1", None)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the random starts", 0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes < 1:
            raise UserError(f"classes={self.classes}", "at least 1 is needed")

    @property
    def passes(self) -> float:
        return 1 + self.classes * self.restarts * (3.0 * self.steps + len(self.phases))

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        objective, draws = guided_loss_named(self.loss), self.draws(images, keys)
        with frozen(model):
            best = Best(images, labels, targeted=False)
            aims = look_around(model, best, images.detach(), self.classes)
            for place in range(aims.shape[1]):
                for restart in range(self.restarts):
                    draw = draws.of(f"class {place}").of(f"restart {restart}")
                    self.climb_from_random(model, best, images.detach(), aims[:, place], objective, margin, draw)
        return best.images


def look_around(model: nn.Module, best: Best, images: Tensor, classes: int) -> Tensor:
    """Offer the images themselves, and say which other classes are nearest: (N, classes), or (N, classes, H, W)."""
    with torch.no_grad():
        logits = model(images)
    best.offer(best.everyone(), images, logits, margin(logits, best.labels))
    return nearest(logits, best.labels, classes)


def nearest(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The other classes, highest logit first."""
    own = labels.clamp_max(logits.shape[1] - 1)[:, None]  # an ignored pixel has no class of its own to leave out
    others = logits.scatter(1, own, -torch.inf)
    return others.topk(min(classes, logits.shape[1] - 1), 1)[1]
