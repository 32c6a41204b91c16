"""Counting how often a network is run, per image, forwards and backwards."""

from __future__ import annotations

from torch import Tensor

from vallum.models.model import Model


class Tally:
    """Counts that a copy of the model shares: an attack may search on a copy."""

    def __init__(self) -> None:
        self.forwards = self.backwards = 0

    def __deepcopy__(self, memo: object) -> Tally:
        return self


class Counted(Model):
    """A model that counts the images that go through it and the gradients that come back; otherwise the same.

    >>> import torch
    >>> from vallum.models.model import Wrapped
    >>> model = Counted(Wrapped(torch.nn.Flatten(), classes=12))
    >>> model(torch.rand(4, 3, 2, 2, requires_grad=True)).sum().backward()
    >>> model.forwards, model.backwards
    (4, 4)
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.task, self.classes, self.spec, self.size = model.task, model.classes, model.spec, model.size
        self.differentiable = model.differentiable
        self.train(model.training)
        self.tally = Tally()

    @property
    def forwards(self) -> int:
        return self.tally.forwards

    @property
    def backwards(self) -> int:
        return self.tally.backwards

    def forward(self, images: Tensor) -> Tensor:
        self.tally.forwards += len(images)
        logits = self.model(images)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: self._came_back(len(gradient)))
        return logits

    def _came_back(self, count: int) -> None:
        self.tally.backwards += count
