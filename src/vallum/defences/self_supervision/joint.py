"""Network and heads learn together, from attacked images: so that the network is right where repairs lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vallum.defences.attack_mode import attack_mode, still_norms
from vallum.defences.plain import accuracy
from vallum.defences.recipe import RECIPES, Context, Losses
from vallum.defences.self_supervision.defence import SelfSupervised
from vallum.defences.self_supervision.recipe import SelfSupervision, defence_in
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.losses import cross_entropy
from vallum.threats.pgd import PGD


@RECIPES.register("self_supervision_joint")
@dataclass(frozen=True)
class JointSelfSupervision(SelfSupervision):
    """Adversarial training of the model in which the tasks' losses count as well, and its answers after a repair.

    The attack is on the model without repair; the gradient goes straight through the repair.

    >>> JointSelfSupervision(joint=0.3, repaired=1.0).spec
    'self_supervision_joint:joint=0.3,repaired=1'
    """

    adversarial: float = parameter("share of the images that are attacked", 1.0)
    joint: float = parameter("weight of the tasks' mean loss beside cross-entropy", 0.1)
    repaired: float = parameter("weight of the cross-entropy after a repair", 0.0)
    repair_steps: int = parameter("of that repair", 1)

    settles_on: ClassVar[int] = SelfSupervision.settles_on

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("joint", "repaired"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name):g}", "a weight is not negative")
        if self.repair_steps < 1:
            raise UserError(f"repair_steps={self.repair_steps}", "at least 1 is needed", "repaired=0 does without")

    def learns(self, model: Model) -> nn.Module:
        return defence_in(model)

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        defence = defence_in(model)
        objective, labels = defence.objective, batch.labels
        with attack_mode(defence.bare, "eval"):
            images = self._attacked(defence, batch, context)
        logits = defence.model(images)
        said: Losses = {"cross_entropy": cross_entropy(logits, labels).mean()}
        with still_norms(defence.bare):  # views are not what its statistics are to be of
            drawn = objective.draw(context.draws(batch.keys, "self-supervision"))
            losses = objective.losses(defence.backbone, images, drawn, learning=True).mean(0)  # (T,)
            loss = said["cross_entropy"] + self.joint * losses.mean()
            if self.repaired:
                after = defence.model(self._repaired(defence, images))
                said["repaired_cross_entropy"] = cross_entropy(after, labels).mean()
                loss = loss + self.repaired * said["repaired_cross_entropy"]
        each = {f"{task.name}_loss": value for task, value in zip(objective.tasks, losses, strict=True)}
        return {"loss": loss, **said, **each, "train_robust_accuracy": accuracy(logits, labels)}

    def probe(self) -> PGD:
        return PGD(self.eps, steps=10)

    def _repaired(self, defence: SelfSupervised, images: Tensor) -> Tensor:
        return defence.tuned(steps=self.repair_steps).repaired(images).images
