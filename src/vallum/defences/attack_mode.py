"""How a network's layers behave while it is attacked in the middle of its own training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vallum.threats.eased import eased

BatchNormMode = Literal["eval", "train"]


@contextmanager
def attack_mode(model: nn.Module, batch_norm: BatchNormMode) -> Iterator[None]:
    """No dropout, and batch norm with its running statistics ("eval") or the batch's own ("train").

    Neither mode lets the attack change the running statistics, and nothing learns meanwhile: what batch norm does to
    weights is not followed back. Afterwards every layer is in the mode it was in.
    """
    training = [(module, module.training) for module in model.modules()]
    norms = [(m, m.track_running_stats) for m in model.modules() if isinstance(m, _BatchNorm)]
    try:
        model.eval()
        if batch_norm == "train":
            for norm, _ in norms:
                norm.training, norm.track_running_stats = True, False
        with eased(model):
            yield
    finally:
        for module, was in training:
            module.training = was
        for norm, tracked in norms:
            norm.track_running_stats = tracked


@contextmanager
def still_norms(model: nn.Module) -> Iterator[None]:
    """Batch norm with its running statistics, which stay as they are, whatever mode the rest is in.

    A perturbation that a whole batch shares is part of the batch's own statistics, which then take it away again.
    """
    norms = [(m, m.training) for m in model.modules() if isinstance(m, _BatchNorm)]
    try:
        for norm, _ in norms:
            norm.training = False
        yield
    finally:
        for norm, was in norms:
            norm.training = was
