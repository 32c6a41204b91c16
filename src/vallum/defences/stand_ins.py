"""Models that attackers use in place of a defence: where its gradient is of no use, and where it draws at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vallum.defences.chance import drawing
from vallum.models.model import Model
from vallum.threats.base import Threat
from vallum.threats.losses import rewarded

if TYPE_CHECKING:
    from vallum.defences.base import Defence


class StandIn(Model):
    """Answers for another model, of which it has all the facts."""

    attack: Callable[[Threat], Threat | None] | None = None  # what an attack becomes through it, as in Surface
    thorough: bool = False  # only gone through where everything is asked for
    weight: float = 1.0  # how much longer an attack takes through it than on what it stands for, about

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.task, self.classes, self.size = model.task, model.classes, model.size
        self.training = model.training  # its own alone: what is inside stays as it is


class StraightThrough(StandIn):
    """The same answers; on the way back, what the defence does to the images counts as the identity (BPDA).

    Athalye et al. 2018 (arXiv 1802.00420). A defence that only changes images is bypassed there, so that the gradient
    is that of the model at the changed images; any other is bypassed as a whole, with the model's gradient at the
    images themselves.
    """

    def __init__(self, defence: Defence) -> None:
        super().__init__(defence)
        self.defence = defence

    def forward(self, images: Tensor) -> Tensor:
        inner = self.defence.model
        if self.defence.purify is not None:
            with torch.no_grad():
                purified = self.defence.purify(images)
            if purified.shape == images.shape:
                return inner(value_of(purified, images))
        with torch.no_grad():
            answer = self.defence(images)
        return value_of(answer, inner(images))


def value_of(value: Tensor, gradient: Tensor) -> Tensor:
    """Exactly the one going forwards, and the other going back."""
    return _Swap.apply(gradient, value)


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(gradient: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Averaged(StandIn):
    """The mean answer over several draws of a model that draws at random (EOT, arXiv 1707.07397).

    `of` says the mean of what: the logits, or the probabilities, whose logarithm comes out.
    """

    def __init__(self, model: Model, draws: int, of: Literal["probabilities", "logits"] = "probabilities") -> None:
        super().__init__(model)
        self.draws, self.of = draws, of

    def forward(self, images: Tensor) -> Tensor:
        n = len(images)
        with drawing(numbers=[number for number in range(self.draws) for _ in range(n)]):
            logits = self.model(images.repeat(self.draws, 1, 1, 1))  # all draws in one batch
        reward: Tensor | None = getattr(logits, "reward", None)  # (draws * N,)
        logits = logits.view(self.draws, n, *logits.shape[1:])
        mean = logits.mean(0) if self.of == "logits" else logits.log_softmax(2).logsumexp(0)
        return mean if reward is None else rewarded(mean, reward.view(self.draws, n).mean(0))
