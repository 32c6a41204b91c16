"""What every defence has in common: it wraps a model, is a model, and says how it must be attacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vallum.models.model import Model


@dataclass(frozen=True)
class Surface:
    """One way to attack a model: the attack works on `through`, and what it finds is tested on the model itself.

    `through` may be the model, a differentiable stand-in for a part that has no useful gradient, an average over its
    randomness, or the bare model beneath a defence. `knows_defence` is False where the attacker ignores the defence:
    that number is shown beside the others, labelled so, and never alone.
    """

    name: str
    through: Model
    knows_defence: bool = True


class Defence(Model):
    """A model around a model. Subclasses define `forward`, and add to `attack_surfaces` what their inside calls for.

    Without more being said a defence is attacked straight through and by transfer from the model beneath it.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.task, self.classes, self.size = model.task, model.classes, model.size
        self.differentiable = model.differentiable
        self.train(model.training)  # in the mode of what it wraps, and not in training mode as a new module would be

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def attack_surfaces(self) -> Sequence[Surface]:
        return (Surface("direct", self), Surface("transfer", self.model, knows_defence=False))


def surfaces_of(model: Model) -> Sequence[Surface]:
    """How `model` must be attacked: a defence declares it, any other model is attacked directly."""
    return model.attack_surfaces() if isinstance(model, Defence) else (Surface("direct", model),)
