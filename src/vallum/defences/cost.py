"""What a defence costs at test time, in units of the bare model's own forward pass."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vallum.models.model import Model


@dataclass(frozen=True)
class Cost:
    """How much more a prediction takes than one of the bare model."""

    passes: float  # in arithmetic: products and sums of all its forward and backward passes
    time: float  # in seconds


def cost_of(model: Model, bare: Model, images: Tensor, rounds: int = 3) -> Cost:
    """Measured on these images; rounds of the two alternate, so that whatever else the machine does meets both.

    >>> from vallum.models import load_model
    >>> bare = load_model("builtin:signs_resnet")
    >>> cost_of(bare, bare, torch.rand(4, 3, 32, 32)).passes
    1.0
    """
    work = [operations(one, images) for one in (model, bare)]
    ratios = []
    for _ in range(rounds):
        mine, its = (_seconds(one, images) for one in (model, bare))
        ratios.append(mine / max(its, 1e-9))
    return Cost(round(work[0] / work[1], 3) if work[1] else float("nan"), round(statistics.median(ratios), 3))


def operations(model: nn.Module, images: Tensor) -> int:
    """Products and sums of one call."""
    with _Counting() as counter, torch.no_grad():
        model(images)
    return counter.total


class _Counting(TorchDispatchMode):
    """Adds up the products and sums of every convolution, product and attention, also those of a backward pass.

    torch's own FlopCounterMode keeps account by module as well, and cannot meet a gradient taken inside a forward pass.
    """

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def _seconds(model: Model, images: Tensor) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        model(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - started
