"""The strong universal attack: complementary objectives from several starts, chosen by images of their own.

Stochastic projected gradient ascent as in Shafahi et al. 2020 and Mummadi et al. 2019, with what each of its weaknesses
calls for: unclipped cross-entropy ends at one dominant class whose own images stay right; two starts may differ by a
third of the images; a batch's loss says little about other images. And whatever is found must beat a chessboard.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS
from vallum.threats.norms import norm_named
from vallum.threats.search import frozen
from vallum.threats.universal.ascent import Ball, Counter, Seen
from vallum.threats.universal.base import Added
from vallum.threats.universal.candidates import Way, compete, cost_of, frequent, look
from vallum.threats.universal.found import Found
from vallum.threats.universal.goals import Goal, accuracy_left, away, class_number, hide, scene, towards
from vallum.threats.universal.patterns import FORMS, draw
from vallum.threats.universal.pool import Pool

PARTS = 4  # of a batch, where gradients are aggregated
MOMENTUM = 0.9


@THREATS.register("universal")
@dataclass(frozen=True)
class Universal(Added):
    """One perturbation for all images, fitted on images that are not evaluated.

    >>> Universal(eps=8 / 255).spec
    'universal:eps=8/255'
    """

    eps: float = parameter("radius", 10 / 255)
    norm: Literal["inf", "2"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("of the last of three rounds; those before have an eighth and a quarter of them", 200)
    batch_size: int = parameter("images per step", 64)
    images: int = parameter("how many it is fitted on, a quarter of them to choose by", 1024)
    data: str | None = parameter("what it is fitted on, as a data source; none: images that are not evaluated", None)
    restarts: int = parameter("random starts of each objective", 1)
    targets: int = parameter("classes that are tried as the answer to everything: the most frequent wrong ones", 2)
    tile: int | None = parameter("side of a square that is repeated over the image; none: all of it", None)
    start: str | None = parameter("a saved perturbation to start from too, as that of another model", None)
    target: str | None = parameter("aim: a class that all images shall be taken for", None)
    scene: int | None = parameter("aim, for segmenters: the image whose labels all images shall show", None)
    hide: str | None = parameter("aim, for segmenters: a class of which nothing shall be seen", None)
    seed: int = parameter("of images, batches and starts", 0)

    needs_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("batch_size", 1), ("images", 2), ("targets", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}", f"at least {least} is needed")
        if self.tile is not None and self.tile < 1:
            raise UserError(f"tile={self.tile}", "a side in pixels", "leave it out for none")
        if sum(aim is not None for aim in (self.target, self.scene, self.hide)) > 1:
            raise UserError("target, scene and hide are three aims", "one perturbation has one", "fit one for each")

    @property
    def fitting_passes(self) -> float:
        aimed = (self.target, self.scene, self.hide) != (None, None, None)
        ways = (1 if aimed else 3) * (1.0 + self.restarts) + 1 + (0 if aimed else self.targets)
        return cost_of(ways + (self.start is not None), min(self.batch_size, self.images), self.steps)

    def search(self, model: Any, pool: Pool) -> tuple[Tensor, dict[str, Any]]:
        draws, spent = Draws(self.seed, [0], "universal"), Counter()
        seen = Seen(model, spent)
        ball = Ball(norm_named(self.norm), float(self.eps))
        first = pool.batch(pool.fit[:1])
        segments, like = first.labels.ndim == 3, first.images[:1]
        if self.tile is not None:
            times = math.prod(-(-side // self.tile) for side in like.shape[-2:])
            if self.norm == "2":  # whose length grows with each repetition
                ball = Ball(ball.norm, ball.eps / math.sqrt(times))
            like = like.new_zeros(1, like.shape[1], self.tile, self.tile)
        with frozen(model):
            goals, judged = self._goals(model, pool, segments)
            ways = list(self._ways(goals, like, ball, draws))
            votes = look(seen, pool, ways, judged, self.batch_size)
            nothing, clean = ways[0].delta, ways[0].failure
            if judged.failure is accuracy_left and not segments:
                answers = frequent(votes, self.targets)
                ways += [Way(f"towards {k} from nothing", towards(k), nothing, failure=clean) for k in answers]
            ranked = compete(seen, pool, ways, judged, ball, self.steps, self.batch_size, draws)
        return ranked[0].delta[0], told(ranked, judged, pool, clean, spent)

    def _goals(self, model: Any, pool: Pool, segments: bool) -> tuple[list[Goal], Goal]:
        """What the ways raise, and what they are judged by."""
        classes = getattr(model, "classes", None) or tuple(pool.data.classes)
        if (self.scene is not None or self.hide is not None) and not segments:
            raise UserError("scene and hide are aims for segmenters", "this model tells one class per image")
        if self.target is not None:
            goal = towards(class_number(self.target, classes), counts=True)
        elif self.hide is not None:
            goal = hide(class_number(self.hide, classes))
        elif self.scene is not None:
            if not 0 <= self.scene < len(pool.data):
                raise UserError(f"scene={self.scene}", f"images 0 to {len(pool.data) - 1} are there to be shown")
            shown = pool.data.batch([self.scene])
            if not len(shown):
                raise UserError(f"scene={self.scene} cannot be read", remedy="take another image to be shown")
            goal = scene(shown.labels[0].to(pool.device))
        else:
            names = ("margin", "clipped", "balanced") if segments else ("margin", "clipped", "cross_entropy")
            return [away(name) for name in names], away("margin")
        return [goal], goal

    def _ways(self, goals: list[Goal], like: Tensor, ball: Ball, draws: Draws) -> Iterator[Way]:
        nothing, ones = torch.zeros_like(like), torch.ones_like(like)
        radius = like.new_full((1,), ball.eps)
        for goal in goals:
            momentum = MOMENTUM if goal.name == "clipped" else 0.0
            yield Way(f"{goal.name} from nothing", goal, nothing, momentum)
            for restart in range(self.restarts):
                start = ball.norm.random(draws.of(f"{goal.name}/{restart}"), radius, -ones, ones)
                yield Way(f"{goal.name} from random start {restart}", goal, start, momentum)
        yield Way(f"{goals[0].name} aggregated", goals[0], nothing, parts=PARTS)
        before = {"what was found before": self.found} if self.found is not None else {}
        if self.start is not None:
            before[self.start] = Found.load(self.start)
        for name, known in before.items():
            there = known.deltas[:1].to(like) * known.factor(ball.eps)
            if there.shape != like.shape:
                raise UserError(f"{name} is {tuple(there.shape[1:])}", f"{tuple(like.shape[1:])} is needed")
            yield Way(f"{goals[0].name} from {name}", goals[0], ball.step(there, nothing, 0.0))
        for form in FORMS:
            shape = tuple(like.shape[1:])
            signs = draw(form, shape, 2, self.seed).to(like)[None]
            yield Way(form, goals[0], ball.step(nothing, signs, 1.0), climbs=False)


def told(ranked: list[Way], judged: Goal, pool: Pool, clean: float, spent: Counter) -> dict[str, Any]:
    """What there is to say about a search; `missed` is the share of the goal that is missed on the images chosen by."""
    return {
        "goal": judged.name,
        "images": len(pool.fit),
        "chosen on": len(pool.select),
        "missed without": clean,
        "missed": ranked[0].failure,
        "missed by patterns": min((way.failure for way in ranked if not way.climbs), default=None),
        "way": ranked[0].name,
        "ways": [{"way": way.name, "missed": way.failure} for way in ranked if way.climbs],
        "forwards": spent.forwards,
        "backwards": spent.backwards,
    }
