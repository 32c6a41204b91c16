"""Rare classes weigh more in a segmenter's loss, as in ENet, Paszke et al. 2016 (arXiv 1606.02147)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import IGNORE, Task
from vallum.models.model import Model
from vallum.threats.losses import cross_entropy

HELP = "of segmenters: rare classes weigh more, by 1 / ln(1.1 + share)"


class ClassShares(nn.Module):
    """What training remembers of its labels: how many pixels of each class it has seen."""

    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(256))

    def class_weights(self, labels: Tensor, classes: int) -> Tensor:
        """1 / ln(1.1 + share) of each class, from all the labels seen so far.

        >>> ClassShares().class_weights(torch.tensor([[[0, 0], [0, 1]]]), 2)
        tensor([1.6255, 3.3322])
        """
        with torch.no_grad():
            self.counts += torch.bincount(labels[labels != IGNORE], minlength=256).float()
            share = self.counts[:classes] / self.counts.sum().clamp_min(1)
            return 1 / (1.1 + share).log()


def shares_for(model: Model, wanted: bool) -> nn.Module:
    """The companion of a recipe that may weigh classes."""
    if wanted and model.task is not Task.SEGMENT:
        raise UserError(
            f"class_weights=true, but the model's task is {model.task}",
            "the weights are of a segmenter's pixels",
            "leave it out, or take a segmenter",
        )
    return ClassShares() if wanted else nn.Module()


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, label_smoothing: float = 0.0
) -> Tensor:
    """The mean over images of the weighted mean over their pixels that belong to a class."""
    valid = labels != IGNORE
    target = labels.where(valid, 0)
    values = F.cross_entropy(logits.float(), target, reduction="none", label_smoothing=label_smoothing)
    weight = valid.float() if weights is None else weights[target] * valid
    return ((values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)).mean()


def loss_of(logits: Tensor, labels: Tensor, companion: nn.Module, label_smoothing: float) -> Tensor:
    """Cross-entropy as training lowers it; classes weigh by their shares where the companion keeps them."""
    if not isinstance(companion, ClassShares):
        return cross_entropy(logits, labels, label_smoothing=label_smoothing).mean()
    weights = companion.class_weights(labels, logits.shape[1])
    return weighted_cross_entropy(logits, labels, weights, label_smoothing)
