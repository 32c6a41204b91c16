"""Losses as functions: (logits, labels) -> one number per image, which an attack raises.

Segmenters give one number per pixel first; pixels with the label 255 get no gradient, and the rest are averaged over
the image. A new loss is one function with the decorator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.errors import UserError, did_you_mean
from vallum.images import IGNORE

Loss = Callable[..., Tensor]  # (logits, labels) and perhaps options by name
LOSSES: dict[str, Loss] = {}


def _loss(function: Loss) -> Loss:
    """Register a loss that is written per image, or per pixel: logits (N, K, ...) and labels (N, ...) -> (N, ...)."""

    def averaged(logits: Tensor, labels: Tensor, **options: float) -> Tensor:
        if logits.dtype in (torch.bfloat16, torch.float16):  # too coarse for the probability of a sure answer
            logits = logits.float()
        if labels.ndim == 1:
            return function(logits, labels, **options)
        valid = labels != IGNORE
        values = function(logits, labels.where(valid, 0), **options).where(valid, 0)  # (N, H, W)
        return values.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)

    LOSSES[function.__name__] = averaged
    return averaged


@_loss
def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Minus the log-probability of the label, a share of which may be spread over all classes."""
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


@_loss
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best other logit exceeds the label's: positive once the image has fallen."""
    own = logits.gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return others - own


def loss_named(name: str) -> Loss:
    if name not in LOSSES:
        raise UserError(f"no loss is called {name!r}", remedy=did_you_mean(name, LOSSES))
    return LOSSES[name]


def fallen(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """(N,) whether the attacker has all that can be had from an image: every valid pixel wrong, or on target."""
    hit = logits.argmax(1) == labels
    wanted = hit if targeted else ~hit
    if labels.ndim == 1:
        return wanted
    return (wanted | (labels == IGNORE)).flatten(1).all(1)
