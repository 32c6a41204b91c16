"""The default worst case: a cascade of complementary attacks that spends where something may still fall.

Short climbs come first and settle most images. How far an image's margin has moved by then tells how far it may still
move: on networks that can be climbed at all, the longest climbs add a few hundredths to what short ones gained. So
longer ones, towards more classes, with other losses and from other starts, are for images that lack less than they
have gained. Where the gradient is of no use the margin never moved, and that says nothing: so random search, which
needs no gradient, looks at every image that stands, and where it does better than all climbs did, everything is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.apgd import look_around
from vallum.threats.base import THREATS, Bounded
from vallum.threats.climb import Objective, Rows, climb_through, phases
from vallum.threats.fast import folded, in_bfloat16
from vallum.threats.losses import guided_loss_named, loss_named, margin
from vallum.threats.norms import norm_named, per_image
from vallum.threats.search import Best, frozen
from vallum.threats.square import Square
from vallum.threats.strong_segmentation import STEPS, read_shares, union, union_passes

ALL, NEAR, NEARER = float("inf"), 0.5, 0.15


@dataclass(frozen=True)
class Stage:
    """One climb of the cascade, for the images that still stand."""

    loss: str
    steps: int
    aim: int | None = None  # towards which class, the nearest being 0; none: away from the label
    random: bool = True  # from a random start, or from the image
    within: float = ALL  # only images that lack at most this share of what their margin has gained


SHORT = (Stage("margin", 10), *(Stage("margin", 15, aim, random=False) for aim in range(4)))
CLOSE = (
    *(Stage("dlr", 40, aim, within=NEAR) for aim in range(9)),
    Stage("cross_entropy", 50, within=NEAR),
    *(Stage("margin", 100, aim, within=NEARER) for aim in range(3)),
)
EXHAUSTIVE = (
    Stage("cross_entropy", 100),
    Stage("dlr", 100),
    *(Stage(loss, 100, aim) for loss in ("margin", "dlr") for aim in range(9)),
)
BLIND, EXHAUSTIVE_BLIND = 100, 5000  # queries of random search


@THREATS.register("strong")
@dataclass(frozen=True)
class Strong(Bounded):
    """The worst case over complementary attacks, per image, at a small part of what running them all costs.

    >>> Strong(eps=8 / 255).spec
    'strong:eps=8/255'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    exhaustive: bool = parameter("spend on every image what otherwise only the doubtful get, and more", False)
    precision: Literal["float32", "bfloat16"] = parameter("of the search; falls are verified on the model", "float32")
    effort: float = parameter("multiplies all steps and queries", 1.0)
    lowest: Literal["accuracy", "miou"] = parameter("what to drive down, of a segmenter", "accuracy")
    shares: str | None = parameter("how common each class is, as (0.5,0.3,0.2), for lowest=miou of a whole set", None)
    seed: int = parameter("of starts and proposals", 0)

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.effort < float("inf"):
            raise UserError(f"effort={self.effort:g}", "a factor, as 1 or 2.5")
        if self.shares is not None:
            read_shares(self.shares)
            if self.lowest != "miou":
                raise UserError("shares say what counts in a mIoU", remedy="write lowest=miou")

    def check_for_classes(self) -> None:
        if self.lowest != "accuracy":
            raise UserError(
                f"lowest={self.lowest} against a classifier", "a mIoU is of a segmenter", "leave lowest and shares out"
            )

    @property
    def passes(self) -> float:
        # What only the doubtful get depends on the model, and is left out.
        stages, queries = (SHORT + EXHAUSTIVE, EXHAUSTIVE_BLIND) if self.exhaustive else (SHORT, BLIND)
        climbs = [sum(3.0 * steps + 1 for _, steps in self._phases(stage)) for stage in stages]
        return 1.0 + sum(climbs) + self._of(queries)

    def passes_for(self, segments: bool) -> float:
        return union_passes(*self._union, norm_named(self.norm)) if segments else self.passes

    @property
    def _union(self) -> tuple[int, bool]:
        """Steps of each climb on a segmenter, and whether all losses are climbed."""
        return self._of(STEPS) * (5 if self.exhaustive else 1), self.exhaustive

    def _of(self, steps: int) -> int:
        return max(1, round(steps * self.effort))

    def _phases(self, stage: Stage) -> list[tuple[float, int]]:
        sparse = self.norm == "1"
        return phases(self._of(stage.steps) * (3 if sparse else 1), norm_named(self.norm), sparse and stage.random)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        draws = self.draws(images, keys)
        with frozen(model):
            images, labels = images.detach().clone(), labels.clone()
            exact = folded(model, images)
            fast = in_bfloat16(exact) if self.precision == "bfloat16" else exact
            best = Best(images, labels, targeted=False, judge=None if fast is model else model)
            if labels.ndim == 3:
                norm, radii = norm_named(self.norm), per_image(self.eps, images)
                shares = None if self.shares is None else read_shares(self.shares)
                union(fast, best, images, radii, norm, draws, *self._union, self.lowest, shares)
                return best.images
            aims = look_around(model, best, images, 9)
            before = best.loss.clone()
            self._run(SHORT, fast, best, images, aims, before, draws.of("short"))
            self._run(CLOSE, exact, best, images, aims, before, draws.of("close"))  # here the last bits decide
            doubtful = best.everyone() if self.exhaustive else self._blind(model, best, images, BLIND, draws)
            self._run(EXHAUSTIVE, exact, best, images, aims, before, draws.of("exhaustive"), doubtful)
            self._blind(model, best, images, EXHAUSTIVE_BLIND, draws.of("exhaustive"), doubtful)
        return best.images

    def _run(
        self,
        stages: Sequence[Stage],
        model: Callable[[Tensor], Tensor],
        best: Best,
        images: Tensor,
        aims: Tensor,
        before: Tensor,
        draws: Draws,
        these: Tensor | None = None,
    ) -> None:
        norm, radii = norm_named(self.norm), per_image(self.eps, images)
        for place, stage in enumerate(stages):
            if stage.aim is not None and stage.aim >= aims.shape[1]:
                continue  # there are not that many classes
            standing = best.standing()
            if these is not None:
                standing = these[~best.has_fallen[these]]
            lacks, gained = -best.loss[standing], (best.loss - before)[standing]
            which = standing[(lacks <= stage.within * gained) | (stage.within == ALL)]
            if not len(which):
                continue
            clean, eps = images[which], radii[which]
            steps = self._phases(stage)
            start = torch.zeros_like(clean)
            if stage.random:
                start = norm.random(draws.take(which).of(place), eps * steps[0][0], -clean, 1 - clean)
            aim = aims[which, 0 if stage.aim is None else stage.aim]
            rows = Rows.begin(which, clean, best.labels[which], aim, eps, start)
            climb_through(model, best, rows, steps, norm, _objective(stage), margin)

    def _blind(
        self, model: nn.Module, best: Best, images: Tensor, queries: int, draws: Draws, these: Tensor | None = None
    ) -> Tensor:
        """Random search; says for which images that still stand it did better than what was known."""
        standing = best.standing() if these is None else these[~best.has_fallen[these]]
        if not len(standing):
            return standing
        eps = per_image(self.eps, images)[standing]
        blind = Best(images[standing], best.labels[standing], targeted=False)
        with torch.no_grad():
            Square(eps, norm=self.norm, queries=self._of(queries)).search(
                model, blind, images[standing], margin, draws.take(standing)
            )
        better = (blind.loss > best.loss[standing]) & ~blind.has_fallen
        best.merge(standing, blind)
        return standing[better]


def _objective(stage: Stage) -> Objective:
    if stage.aim is not None:
        return guided_loss_named(stage.loss)
    loss = loss_named(stage.loss)
    return lambda logits, labels, aims: loss(logits, labels)
