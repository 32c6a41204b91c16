"""A moving average of the weights, which is steadier than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """average <- decay * average + (1 - decay) * weights after each step; early on with a smaller decay.

    Early averages would otherwise be made of the first weights: after n steps the decay is at most (1 + n) / (10 + n).
    """

    def __init__(self, theirs: dict[str, Tensor], decay: float) -> None:
        self.decay = decay  # `theirs` is a model's own memory: what it learns shows there
        self.values = {name: tensor.detach().clone() for name, tensor in theirs.items()}
        self.moving = [(self.values[name], tensor) for name, tensor in theirs.items() if tensor.is_floating_point()]
        self.counts = [(self.values[name], tensor) for name, tensor in theirs.items() if not tensor.is_floating_point()]

    def update(self, steps: int) -> None:
        decay = min(self.decay, (1 + steps) / (10 + steps))
        with torch.no_grad():
            torch._foreach_lerp_([ours for ours, _ in self.moving], [theirs for _, theirs in self.moving], 1 - decay)
        for ours, theirs in self.counts:
            ours.copy_(theirs)

    @torch.no_grad()
    def take_place(self) -> None:
        """From here on the model has the averaged weights."""
        for ours, theirs in (*self.moving, *self.counts):
            theirs.copy_(ours)

    @contextmanager
    def worn_by(self, model: nn.Module) -> Iterator[None]:
        """Meanwhile the model has the averaged weights."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.values)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        return self.values

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self.values.items():
            tensor.copy_(values[name])
