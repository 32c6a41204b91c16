"""Training without a defence: cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vallum.defences.class_weights import HELP, loss_of, shares_for
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import IGNORE, Batch
from vallum.models.model import Model
from vallum.specs import parameter


@RECIPES.register("plain")
@dataclass(frozen=True)
class Plain(Recipe):
    """Cross-entropy, for classifiers and, over the pixels that belong to a class, for segmenters."""

    label_smoothing: float = parameter("share of the label that is spread over all classes", 0.0)
    class_weights: bool = parameter(HELP, False)

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing={self.label_smoothing:g}", "a share below 1 is needed")

    def companion(self, model: Model, images: Tensor) -> nn.Module:
        return shares_for(model, self.class_weights)

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        logits = model(batch.images)
        loss = loss_of(logits, batch.labels, context.companion, self.label_smoothing)
        return {"loss": loss, "train_accuracy": accuracy(logits, batch.labels)}


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over images of the share of labels, one or one per pixel, that are met."""
    return correct(logits, labels).mean()


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) the share of each image's labels that are met."""
    hits = (logits.argmax(1) == labels).float()
    if labels.ndim == 1:
        return hits
    valid = labels != IGNORE
    return hits.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)
