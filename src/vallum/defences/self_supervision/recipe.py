"""Training the heads of self-supervised tasks on a network that stays as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.defences.attack_mode import attack_mode
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.defences.self_supervision.backbone import Features
from vallum.defences.self_supervision.defence import KNOBS, SelfSupervised
from vallum.defences.self_supervision.objective import Combine, Weights
from vallum.defences.self_supervision.presets import PRESETS, Preset
from vallum.defences.self_supervision.repair import Repair, Start
from vallum.defences.self_supervision.tasks.base import read_tasks, write_tasks
from vallum.errors import UserError, a
from vallum.images import Batch, Task
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.pgd import PGD

MOST = 2**27  # numbers in the clean images that are looked at once in the end: half a gigabyte
DENSE = "equivariance+inpainting(width=24)"  # what a segmenter gets where nothing is said


@RECIPES.register("self_supervision")
@dataclass(frozen=True)
class SelfSupervision(Recipe):
    """Heads for self-supervised tasks learn on the model's frozen features; then they repair images before it looks.

    What is left out is as the preset says. The model itself learns nothing; how clean images do at the tasks is kept
    beside the heads. Where the model is a defence of this family already, its heads learn on.

    >>> SelfSupervision(steps=10).spec
    'self_supervision:steps=10'
    """

    preset: Preset = parameter("where the rest comes from: fast, or paper (as published, faults repaired)", "fast")
    tasks: str = parameter("joined by +, with what they take in brackets; none: as in the preset", "")
    budget: float | None = parameter("how far an image may be moved", None)
    steps: int | None = parameter("of the repair; 0: no defence", None)
    step_size: float | None = parameter("length of the first step of the repair", None)
    schedule: Literal["constant", "linear", "cosine"] | None = parameter("how the length of a step goes on", None)
    norm: Literal["inf", "2", "1"] | None = parameter("in which the budget is measured", None)
    start: Start | None = parameter("of the repair: zero (the image itself), uniform (anywhere near) or guess", None)
    weights: Weights | None = parameter("of the losses: standard (by clean images), equal or paper (1:50:10)", None)
    combine: Combine | None = parameter("of the tasks' gradients: sum, grad_norm or pcgrad", None)
    output: Literal["last", "best", "mean"] | None = parameter("of the steps: last, best, mean of the later half", None)
    gate: float | None = parameter("share of clean images that pass untouched, by each task", None)
    stop: float | None = parameter("an image is done once it does as well as this share of clean ones", None)
    random: bool | None = parameter("draws depend on the image and on chance", None)
    adversarial: float = parameter("share of the images that the heads see attacked while they learn", 0.0)
    eps: float = parameter("radius of that attack, on the model", 8 / 255)
    attack_steps: int = parameter("of that attack", 5)
    pooled: str = parameter("layer whose output is the feature of the whole image; none: what the last one sees", "")
    map: str = parameter("layer whose output is the map of features; none: one in the middle", "")

    settles_on: ClassVar[int] = 1024

    def __post_init__(self) -> None:
        if not 0 <= self.adversarial <= 1:
            raise UserError(f"adversarial={self.adversarial:g}", "a share of the images, 0 to 1")
        if self.tasks:
            read_tasks(self.tasks)
        self._attack(0)  # refuses what PGD refuses
        self.repair  # noqa: B018  as Repair does

    @property
    def repair(self) -> Repair:
        """The preset's, with what was said instead."""
        said = {name: getattr(self, name) for name in KNOBS if getattr(self, name) is not None}
        return PRESETS[self.preset].repair.but(**said)

    def around(self, model: Model, images: Tensor) -> Model:
        if isinstance(model, SelfSupervised):
            said = {name: getattr(self, name) for name in KNOBS if getattr(self, name) is not None}
            made = model.tuned(**said)
            if self.tasks and write_tasks(read_tasks(self.tasks)) != write_tasks(model.objective.tasks):
                raise UserError(
                    f"the model repairs with {write_tasks(model.objective.tasks)} already",
                    "its heads learn on, and no others",
                    "give the model that is inside, for other tasks",
                )
        else:
            tasks = self.tasks or (DENSE if model.task is Task.SEGMENT else PRESETS[self.preset].tasks)
            channels, height, width = images.shape[1:]
            shape = (channels, height, width)
            settings = dataclasses.asdict(self.repair)
            made = SelfSupervised(model, tasks, shape, pooled=self.pooled, map=self.map, **settings)
        made.learning = True
        return made

    def learns(self, model: Model) -> nn.Module:
        return defence_in(model).objective

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        defence = defence_in(model)
        objective, draws = defence.objective, context.draws(batch.keys, "self-supervision")
        with attack_mode(defence.bare, "eval"):
            images = self._attacked(defence, batch, context)
            if len(images) == 1:  # batch norm has nothing to compare one image with
                images, draws = images.repeat(2, 1, 1, 1), draws.take(torch.tensor([0, 0]))

            def read(looks: Tensor, map_alone: bool) -> Features:
                with torch.no_grad():
                    return defence.backbone(looks, map_alone)

            losses = objective.losses(read, images, objective.draw(draws), learning=True).mean(0)  # (T,)
        each = {f"{task.name}_loss": loss for task, loss in zip(objective.tasks, losses, strict=True)}
        return {"loss": losses.sum(), **each}  # heads share nothing, so that no weights are needed

    def settle(self, model: Model, batches: Iterable[Batch]) -> dict[str, Any]:
        defence, kept = defence_in(model), list[Tensor]()
        for batch in batches:
            kept.append(batch.images)
            if sum(images.numel() for images in kept) > MOST:
                break
        with attack_mode(defence, "eval"):
            defence.objective.settle(defence.backbone, torch.cat(kept))
        defence.learning = False
        losses = defence.objective.mean.tolist()
        return {f"clean_{task.name}_loss": value for task, value in zip(defence.objective.tasks, losses, strict=True)}

    def _attacked(self, defence: SelfSupervised, batch: Batch, context: Context) -> Tensor:
        """The images, a share of them attacked: which ones is drawn for each alone."""
        if not self.adversarial:
            return batch.images
        chosen = context.draws(batch.keys, "self-supervision/attacked").uniform(purpose="which") < self.adversarial
        if not bool(chosen.any()):
            return batch.images
        which = chosen.nonzero()[:, 0].to(batch.images.device)
        attack = self._attack(context.seed_of_epoch("self-supervision"))
        images, keys = batch.images.clone(), batch.keys[chosen]
        images[which] = attack(defence.bare, batch.images[which], batch.labels[which], keys)
        return images

    def _attack(self, seed: int) -> PGD:
        return PGD(self.eps, steps=self.attack_steps, early_stop=False, seed=seed)


def defence_in(model: Model) -> SelfSupervised:
    """The defence that the recipe of this family works on."""
    if not isinstance(model, SelfSupervised):
        raise UserError(f"{a(model)} has no self-supervised tasks", "a repair around it", "let `train` put it there")
    return model
