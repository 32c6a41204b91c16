"""The optimiser of a training: which weights decay, and which do not."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from vallum.errors import UserError
from vallum.training.settings import Settings


def make_optimizer(modules: Iterable[nn.Module], settings: Settings, device: torch.device) -> Optimizer:
    """SGD with Nesterov momentum or AdamW; matrices and filters decay, biases and the scales of norms do not."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    if not weights:
        raise UserError(
            "the model has nothing to train", "a parameter with requires_grad is needed", "bring a network, unfrozen"
        )
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = device.type in ("cpu", "cuda")  # one pass over the weights instead of several
    if settings.optimizer == "sgd":
        return SGD(groups, settings.learning_rate, momentum=0.9, nesterov=True, fused=fused)
    return AdamW(groups, settings.learning_rate, fused=fused)
