"""A universal patch: one sticker that is pasted over a part of every image, Brown et al. 2017 (arXiv 1712.09665)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Budget
from vallum.threats.norms import norm_named
from vallum.threats.placement import Area, covered, side_for
from vallum.threats.search import frozen
from vallum.threats.universal.ascent import Ball, Counter, Seen
from vallum.threats.universal.base import Fitted
from vallum.threats.universal.candidates import Way, compete, cost_of, frequent, look, missed
from vallum.threats.universal.found import Found
from vallum.threats.universal.goals import accuracy_left, away, class_number, towards
from vallum.threats.universal.laying import Paste, Place
from vallum.threats.universal.pool import Pool
from vallum.threats.universal.universal import told


@THREATS.register("universal_patch")
@dataclass(frozen=True)
class UniversalPatch(Fitted):
    """One patch for all images, fitted on images that are not evaluated; it may show anything.

    In a mask, what it covers is ignored from then on.

    >>> UniversalPatch(share=0.1).spec
    'universal_patch:share=0.1'
    """

    share: float = parameter("of an image's pixels, that the square covers at most", 0.05)
    place: Place = parameter("where it lies; anywhere: drawn for each image", "anywhere")
    steps: int = parameter("of the last of three rounds; those before have an eighth and a quarter of them", 200)
    batch_size: int = parameter("images per step", 64)
    images: int = parameter("how many it is fitted on, a quarter of them to choose by", 1024)
    data: str | None = parameter("what it is fitted on, as a data source; none: images that are not evaluated", None)
    restarts: int = parameter("random starts of each objective", 1)
    targets: int = parameter("classes that are tried as the answer to everything: the most frequent wrong ones", 2)
    target: str | None = parameter("aim: a class that all images shall be taken for", None)
    seed: int = parameter("of images, batches, places and starts", 0)

    needs_gradient: ClassVar[bool] = True
    moves_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share:g}", "a share of the image's pixels, above 0 and at most 1")
        for name, least in (("steps", 1), ("batch_size", 1), ("restarts", 0), ("images", 2), ("targets", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}", f"at least {least} is needed")

    @property
    def budget(self) -> Budget:
        return Budget(Area(), self.share)

    @property
    def fitting_passes(self) -> float:
        ways = 1.0 + self.restarts if self.target is not None else 2 * (1.0 + self.restarts) + self.targets
        return cost_of(ways, min(self.batch_size, self.images), self.steps)

    def pack(self, deltas: Tensor, facts: dict[str, Any], folds: dict[int, int]) -> Found:
        return Found(deltas, "inf", 0.5, facts, folds, place=self.place, seed=self.seed)

    def with_labels(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        patched, there = self.ready.laid(images, keys)
        return patched, covered(labels, there)

    def search(self, model: Any, pool: Pool) -> tuple[Tensor, dict[str, Any]]:
        draws, spent = Draws(self.seed, [0], "universal patch"), Counter()
        seen = Seen(model, spent, Paste(self.place, self.seed))
        first = pool.batch(pool.fit[:1])
        side = side_for(self.share, first.images)
        like = first.images.new_zeros(1, first.images.shape[1], side, side)
        ball = Ball(norm_named("inf"), 0.5)  # about middle grey: all that a patch can show
        with frozen(model):
            classes = getattr(model, "classes", None) or tuple(pool.data.classes)
            goals = [away("margin"), away("clipped")]
            judged = goals[0]
            if self.target is not None:
                goals = [judged := towards(class_number(self.target, classes), counts=True)]
            ways = list(self._ways(goals, like, ball, draws))
            clean = missed(seen, pool, like[:, :, :0, :0], judged, self.batch_size)
            votes = look(seen, pool, ways, judged, self.batch_size)
            if judged.failure is accuracy_left and first.labels.ndim == 1:
                grey, failure = ways[0].delta, ways[0].failure
                answers = frequent(votes, self.targets)
                ways += [Way(f"towards {k} from grey", towards(k), grey, failure=failure) for k in answers]
            ranked = compete(seen, pool, ways, judged, ball, self.steps, self.batch_size, draws)
        return ranked[0].delta[0], told(ranked, judged, pool, clean, spent) | {"side": side}

    def _ways(self, goals: list[Any], like: Tensor, ball: Ball, draws: Draws) -> Iterator[Way]:
        ones, radius = torch.ones_like(like), like.new_full((1,), ball.eps)
        for goal in goals:
            yield Way(f"{goal.name} from grey", goal, torch.zeros_like(like))
            for restart in range(self.restarts):
                start = ball.norm.random(draws.of(f"{goal.name}/{restart}"), radius, -ones, ones)
                yield Way(f"{goal.name} from random start {restart}", goal, start)
        noise = draws.uniform(*like.shape[1:], purpose="control", device=like.device).to(like)
        yield Way("noise", goals[0], noise - 0.5, climbs=False)
        yield Way("white", goals[0], ones / 2, climbs=False)
