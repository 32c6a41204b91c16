"""Training without a defence: cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import IGNORE, Batch
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.losses import cross_entropy


@RECIPES.register("plain")
@dataclass(frozen=True)
class Plain(Recipe):
    """Cross-entropy, for classifiers and, over the pixels that belong to a class, for segmenters."""

    label_smoothing: float = parameter("share of the label that is spread over all classes", 0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing={self.label_smoothing:g}", "a share below 1 is needed")

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        logits = model(batch.images)
        loss = cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing).mean()
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
