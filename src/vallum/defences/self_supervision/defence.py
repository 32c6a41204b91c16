"""A model behind a repair: each image is moved a little, to where self-supervised tasks find it natural."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vallum.defences.attack_mode import attack_mode
from vallum.defences.base import Defence
from vallum.defences.chance import draws_for
from vallum.defences.self_supervision.backbone import Backbone
from vallum.defences.self_supervision.guess import Guess
from vallum.defences.self_supervision.objective import Objective
from vallum.defences.self_supervision.repair import Repair, Repaired, repair
from vallum.defences.self_supervision.stand_ins import (
    DRAWS,
    SHORT,
    UNROLLED,
    Around,
    Hybrid,
    TaskAware,
    Trajectory,
    Unrolled,
    WrongFeatures,
)  # fmt: skip
from vallum.defences.self_supervision.tasks.base import SelfTask, read_tasks, write_tasks
from vallum.defences.stand_ins import value_of
from vallum.errors import UserError
from vallum.images import Draws, Task
from vallum.marks import mark_of
from vallum.models.model import Model
from vallum.specs import Source, parameters, write_value
from vallum.threats.norms import Ball, norm_named, per_image
from vallum.threats.search import frozen

KNOBS = {one.name: one.help for one in parameters(Repair)}
# Of the further ways in those that are gone through by default: measured on signs, each broke images that no other did
# (results/self_supervision).
USUAL = {"hybrid 0.3", "trajectory", "unrolled"}
REWARDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # that attackers try for pleasing the tasks


class SelfSupervised(Defence):
    """Any classifier or segmenter behind a repair by self-supervised tasks, whose heads read its own features.

    Every field of `Repair` is a knob that can be turned at any time; `steps=0` is the model itself. Fresh heads know
    nothing: the recipe `self_supervision` trains them. `guess` is the width of a network that foretells the repair, for
    start=guess; it too must learn.

    >>> from vallum.models import load_model
    >>> defence = SelfSupervised(load_model("builtin:signs_resnet"), "rotation+inpainting", steps=3)
    >>> defence.tuned(steps=0).how.steps, defence.how.steps
    (0, 3)
    """

    stateful = False
    learning = False  # while the heads learn, nothing is repaired
    knobs: ClassVar[Mapping[str, str]] = KNOBS

    def __init__(
        self,
        model: Model,
        tasks: str | Sequence[SelfTask] = "contrastive+rotation+inpainting",
        shape: tuple[int, int, int] = (3, 32, 32),
        *,
        pooled: str = "",
        map: str = "",
        guess: int = 0,
        trust: bool = True,
        source: Source | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(model)
        chosen = read_tasks(tasks, trust) if isinstance(tasks, str) else tuple(tasks)
        if self.task is Task.SEGMENT and (flat := [task.name for task in chosen if not task.dense]):
            raise UserError(
                f"{flat[0]} says something of a whole image",
                "a segmenter needs tasks that say something of each place",
                "take tasks=equivariance+inpainting",
            )
        for name, value in dataclasses.asdict(Repair(**settings)).items():
            setattr(self, name, value)
        self.backbone = Backbone(self.bare, pooled, map)
        weight = next(self.bare.parameters(), torch.zeros(()))
        with attack_mode(self.bare, "eval"):
            layout = self.backbone.layout(torch.full((1, *shape), 0.5, device=weight.device))
        self.size = self.size or (layout.image[1], layout.image[2])
        where: dict[str, Any] = {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}
        self.objective = Objective(chosen, layout).to(**where)
        self.guess = Guess(shape[0], guess).to(**where) if guess else None
        self._check()
        self.source = source or Source("self_supervision", "", {})
        for part in (self.objective, self.guess):
            if part is not None:
                part.train(model.training)

    @property
    def how(self) -> Repair:
        return Repair(**{name: getattr(self, name) for name in KNOBS})

    @property
    def randomised(self) -> bool:  # type: ignore[override]
        return self.how.random and (self.how.steps > 0 or (self.how.gate > 0 and not self.how.off))

    @property
    def exact_gradient(self) -> bool:  # type: ignore[override]
        return self.how.steps == 0 and (self.how.off or not self.how.gate)

    @property
    def fingerprint(self) -> str:
        """What a prediction depends on besides the weights."""
        return f"{self.how!r} {write_tasks(self.objective.tasks)} {self.backbone.named} {mark_of(self.objective.tasks)}"

    def tuned(self, **settings: Any) -> SelfSupervised:
        twin = super().tuned(**settings)
        for name, value in dataclasses.asdict(twin.how).items():  # refuses what cannot be, and reads text
            setattr(twin, name, value)
        twin._check()
        return twin

    def _check(self) -> None:
        if self.how.start == "guess" and self.guess is None:
            raise UserError(
                "start=guess, and no network guesses", "one that was distilled from repairs",
                "harden with self_supervision_amortised, or take start=zero",
            )  # fmt: skip

    def purify(self, images: Tensor) -> Tensor:
        """The repaired images. On the way back the repair counts as the identity: signs leave no more of it."""
        how = self.how
        if how.off or self.learning:
            return images
        if how.start != "guess":
            return value_of(self.repaired(images).images, images)
        guessed = (images + self.guessed(images)).clamp(0, 1)
        return guessed if self.exact_gradient else value_of(self.repaired(images).images, guessed)

    def repaired(self, images: Tensor, keep_path: bool = False) -> Repaired:
        """Each image after its repair, and how it went: without a gradient, in whatever mode the caller is."""
        wanted = self.objective.layout.image
        if images.shape[1:] != wanted:
            raise UserError(
                f"the images are {'x'.join(map(str, images.shape[1:]))}",
                f"the heads of the repair were made for {'x'.join(map(str, wanted))}",
                f"load the data with size={wanted[1]}" + (f"x{wanted[2]}" if wanted[1] != wanted[2] else ""),
            )
        with frozen(self), attack_mode(self, "eval"):
            given = images.detach().clone()
            guess = self.guessed(given).detach() if self.how.start == "guess" else None
            return repair(given, self.objective, self.backbone, self.how, self.draws(given), guess, keep_path)

    def guessed(self, images: Tensor) -> Tensor:
        """What the network that was distilled from repairs would add to each image, with its gradient."""
        how = self.how
        assert self.guess is not None
        ball = Ball.around(norm_named(how.norm), images, per_image(how.budget, images))
        found = self.guess(images.to(self.guess.last.weight.dtype)).to(images.dtype) * how.budget
        return ball.norm.project(found, ball.eps, ball.low, ball.high)

    def draws(self, images: Tensor) -> Draws | None:
        """Where what is random comes from; None: all images meet the same."""
        return draws_for(images, "self-supervision") if self.how.random else None

    def stand_ins(self) -> dict[str, Model]:
        """Head on is straight through already: `purify` lets gradients pass as they are."""
        how, tasks = self.how, self.objective.tasks
        if self.exact_gradient:
            return {}
        short = self if how.steps <= SHORT else self.tuned(steps=SHORT)
        steps = max(how.steps, 1)
        part, cheap = min(1.0, SHORT / steps), 0.8 * min(DRAWS, steps) / steps  # of the whole repair's time, about
        ways: dict[str, Around] = {"trajectory": Trajectory(short, weight=1.2 * part)}
        for reward in REWARDS:
            ways[f"task-aware {reward:g}"] = TaskAware(self, reward, weight=cheap)
        if len(tasks) > 1:
            for place, task in enumerate(tasks):
                ways[f"only {task.name}"] = TaskAware(self, 3.0, task=place, weight=cheap)
        for reward in (0.3, 3.0):
            ways[f"hybrid {reward:g}"] = Hybrid(short, reward, weight=part + cheap)
        ways["unrolled"] = Unrolled(self, weight=4.5 * min(UNROLLED, steps) / steps)
        if self.task is Task.CLASSIFY and self.objective.settled:
            ways["features"] = WrongFeatures(short, weight=part)
        usual = {*USUAL, "hybrid 3"} if how.gate or how.stop else USUAL  # what rests on them must meet one who knows
        for name, way in ways.items():
            way.thorough = name not in usual
        return {**ways}

    def facts(self) -> dict[str, Any]:
        inner = self.model.facts()
        channels, height, width = self.objective.layout.image
        pooled, map = self.backbone.named
        numbers = {name: write_value(getattr(self, name)) for name in KNOBS}
        guess = "" if self.guess is None else str(self.guess.width)
        named = {key: value for key, value in (("pooled", pooled), ("map", map), ("guess", guess)) if value}
        said = {"model": inner["build"], "tasks": write_tasks(self.objective.tasks)}
        source = self.source.but(**said, size=f"{height}x{width}", channels=str(channels), **named, **numbers)
        mine = {"classes": self.classes or inner["classes"], "size": self.size}
        return {**inner, **mine, "build": str(source) if inner["build"] else ""}

    @property
    def build(self) -> str:
        return self.facts()["build"]

    @build.setter
    def build(self, text: str) -> None:
        """What a saved folder said: the same that `facts` says again."""
