"""The repair in one pass: a small network learns from repairs where they lead."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from vallum.defences.attack_mode import attack_mode
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.defences.self_supervision.guess import Guess, widest
from vallum.defences.self_supervision.recipe import SelfSupervision, defence_in
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.search import frozen


@RECIPES.register("self_supervision_amortised")
@dataclass(frozen=True)
class AmortisedRepair(SelfSupervision):
    """Train the heads, then a small network that guesses the repair in one pass; some steps may refine what it says.

    The training settings are those of the second part; the first is kept in the sub-folder `heads`. Learnt from are
    repairs as the preset says, or the losses of the tasks themselves.

    >>> AmortisedRepair(refine=1).spec
    'self_supervision_amortised:refine=1'
    """

    adversarial: float = parameter("share of the images that are attacked", 0.5)
    refine: int = parameter("steps of the repair that follow the guess; 0: one pass", 0)
    learn: Literal["repairs", "losses"] = parameter(
        "what the guess learns from: repairs, or the tasks' losses", "repairs"
    )
    most: float = parameter("passes of the model that the guess may take", 1.5)
    heads_epochs: int | None = parameter("none: as many as in the second part; 0: they are trained already", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.refine < 0 or self.most <= 0:
            raise UserError(f"refine={self.refine}, most={self.most:g}", "steps, and a positive number of passes")
        if self.start is not None:
            raise UserError(f"start={self.start}", "the guess is where the repair starts", "leave it out")

    def before(self) -> Sequence[tuple[str, Recipe, dict[str, Any]]]:
        if self.heads_epochs == 0:
            return ()
        names = [field.name for field in dataclasses.fields(SelfSupervision)]
        said = {name: getattr(self, name) for name in names}
        heads = SelfSupervision(**{**said, "start": "zero", "steps": self.repair.steps})  # whole without the guess
        return (("heads", heads, {} if self.heads_epochs is None else {"epochs": self.heads_epochs}),)

    def around(self, model: Model, images: Tensor) -> Model:
        made = defence_in(super().around(model, images))
        if made.guess is None:
            width = widest(made.bare, images, self.most)
            made.guess = Guess(images.shape[1], width).to(images.device).train(made.training)
        made = made.tuned(start="guess", steps=self.refine)
        made.learning = True
        return made

    def learns(self, model: Model) -> nn.Module:
        guess = defence_in(model).guess
        assert guess is not None
        return guess

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        defence = defence_in(model)
        bare, objective = defence.bare, defence.objective
        with attack_mode(bare, "eval"), attack_mode(objective, "eval"), frozen(bare), frozen(objective):
            images = self._attacked(defence, batch, context)
            if self.learn == "repairs":
                teacher = defence.tuned(start="zero", steps=self.repair.steps)
                wanted = (teacher.repaired(images).images - images) / max(teacher.how.budget, 1e-12)
                values = (self.learns(model)(images) - wanted).square().flatten(1).mean(1)
            else:
                drawn = objective.draw(context.draws(batch.keys, "self-supervision"))
                there = (images + defence.guessed(images)).clamp(0, 1)
                values = objective.standardised(objective.losses(defence.backbone, there, drawn)).mean(1)
        return {"loss": values.mean()}
