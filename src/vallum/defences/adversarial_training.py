"""Adversarial training, Madry et al. 2018 (arXiv 1706.06083): learn from images that PGD has made as hard as it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vallum.defences.attack_mode import BatchNormMode, attack_mode
from vallum.defences.class_weights import HELP, loss_of, shares_for
from vallum.defences.plain import accuracy
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.pgd import PGD


@RECIPES.register("adversarial")
@dataclass(frozen=True)
class Adversarial(Recipe):
    """Cross-entropy on adversarial images, made anew for the network of each step.

    >>> Adversarial(eps=4 / 255, steps=3).spec
    'adversarial:eps=4/255,steps=3'
    """

    eps: float = parameter("radius of the attack", 8 / 255)
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("of the attack, a forward and a backward pass each", 10)
    step_size: float | None = parameter("length of a step; none: 2.5 * eps / steps", None)
    warmup: float = parameter("share of the training in which the radius grows from 0", 0.0)
    label_smoothing: float = parameter("share of the label that is spread over all classes", 0.0)
    class_weights: bool = parameter(HELP, False)
    batch_norm: BatchNormMode = parameter("statistics that batch norm uses while attacking", "eval")

    def __post_init__(self) -> None:
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name):g}", "a share below 1 is needed")
        self._attack(1.0, 0)  # refuses what PGD refuses

    def companion(self, model: Model, images: Tensor) -> nn.Module:
        return shares_for(model, self.class_weights)

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        grown = min(1.0, context.progress / self.warmup) if self.warmup else 1.0
        attack = self._attack(grown, context.seed_of_epoch("adversarial"))
        with attack_mode(model, self.batch_norm):
            hard = attack(model, batch.images, batch.labels, batch.keys)
        logits = model(hard)
        loss = loss_of(logits, batch.labels, context.companion, self.label_smoothing)
        return {"loss": loss, "train_robust_accuracy": accuracy(logits, batch.labels)}

    def probe(self) -> PGD:
        return PGD(eps=self.eps, norm=self.norm, steps=10)

    def _attack(self, grown: float, seed: int) -> PGD:
        size = None if self.step_size is None else self.step_size * grown
        return PGD(self.eps * grown, self.norm, self.steps, size, early_stop=False, seed=seed)
