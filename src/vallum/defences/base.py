"""What every defence has in common: it wraps a model, is a model, and says how it must be attacked.

A defence that says nothing of itself is taken for one that draws at random, hides its gradient and keeps a state, and
is attacked accordingly. What it declares to be otherwise saves that time; the audit looks whether it is true.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from vallum.defences.cost import Cost, cost_of
from vallum.defences.stand_ins import Averaged, StandIn, StraightThrough
from vallum.defences.surface import Surface, black_box, carried_over
from vallum.errors import UserError
from vallum.models.model import Model


class Defence(Model):
    """A model around a model. Subclasses define `forward`, or `purify` alone where they only change the images.

    >>> class Dimmed(Defence):
    ...     randomised, exact_gradient, stateful = False, True, False
    ...     def purify(self, images): return images * 0.9
    >>> from vallum.models import load_model
    >>> [surface.name for surface in Dimmed(load_model("builtin:signs_resnet")).attack_surfaces()]
    ['direct', 'black-box', 'transfer']
    """

    randomised: bool = True  # whether two calls with the same images may answer differently
    exact_gradient: bool = False  # whether autograd through `forward` gives the gradient of what it computes
    stateful: bool = True  # whether a call changes what later calls answer
    average_over: int = 8  # draws that an attacker takes the mean of, where there is randomness

    knobs: ClassVar[Mapping[str, str]] = {}  # what may be changed at any time, by name, with a line of help

    purify: ClassVar[Callable[..., Tensor] | None] = None  # (self, images) -> images, where that is all it does

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.task, self.task_known = model.task, model.task_known
        self.classes, self.size = model.classes, model.size
        self.differentiable = model.differentiable
        self.train(model.training)  # in the mode of what it wraps, and not in training mode as a new module would be

    def forward(self, images: Tensor) -> Tensor:
        if self.purify is None:
            raise NotImplementedError(f"{type(self).__name__} defines neither forward nor purify")
        return self.model(self.purify(images))

    def stand_ins(self) -> dict[str, Model]:
        """What has a useful gradient in place of this defence around `self.model`, the best first, by name.

        Straight through, unless the gradient is exact. Families add theirs: unrolled, aware of its tasks, and so on.
        """
        return {} if self.exact_gradient else {"straight-through": StraightThrough(self)}

    def attack_surfaces(self) -> Sequence[Surface]:
        """How the whole stack, from here down to the bare model, must be attacked."""
        ways = self._ways()
        surfaces = [Surface("direct", self), *(self._surface(way, self.through(way), by) for way, by in ways.items())]
        if self.draws_at_random:
            surfaces.append(self._surface("expectation", self, self))
            surfaces.append(Surface("known draw", self, known_draw=True, in_union=False))
        surfaces.append(Surface("black-box", self, attack=black_box))
        surfaces.append(Surface("transfer", self.bare, knows_defence=False, attack=carried_over))
        return surfaces

    def _surface(self, name: str, through: Model, by: Model) -> Surface:
        """Through this model, or through its mean over several draws where the defence draws at random.

        What a stand-in says of itself, as how much longer an attack takes there, holds for the surface.
        """
        slower = by.weight if isinstance(by, StandIn) else 1.0
        said: dict[str, Any] = {"attack": by.attack, "thorough": by.thorough} if isinstance(by, StandIn) else {}
        if not self.draws_at_random:
            return Surface(name, through, weight=slower, **said)
        return Surface(name, Averaged(through, self.average_over), weight=slower * self.average_over, **said)

    @property
    def bare(self) -> Model:
        """What is left when every defence of the stack is taken away."""
        return self.model.bare if isinstance(self.model, Defence) else self.model

    @property
    def draws_at_random(self) -> bool:
        """Whether any defence of the stack does."""
        return self.randomised or (isinstance(self.model, Defence) and self.model.draws_at_random)

    @property
    def keeps_state(self) -> bool:
        """Whether any defence of the stack does."""
        return self.stateful or (isinstance(self.model, Defence) and self.model.keeps_state)

    def cost(self, images: Tensor) -> Cost:
        """What a prediction takes, measured on these images, relative to one of the bare model."""
        return cost_of(self, self.bare, images)

    def around(self, model: Model) -> Self:
        """The same defence, sharing all that it has learnt, around another model."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "model": model}
        return twin

    def tuned(self, **settings: Any) -> Self:
        """The same stack, sharing all that it has learnt, with knobs turned: each by the outermost part that has it."""
        mine = {name: value for name, value in settings.items() if name in self.knobs}
        rest = {name: value for name, value in settings.items() if name not in self.knobs}
        if rest and not isinstance(self.model, Defence):
            known = ", ".join(knobs_of(self)) or "it has none"
            raise UserError(f"{type(self).__name__} has no knob {next(iter(rest))!r}", f"its knobs: {known}")
        twin = self.around(self.model.tuned(**rest) if rest and isinstance(self.model, Defence) else self.model)
        for name, value in mine.items():
            setattr(twin, name, value)
        return twin

    def through(self, way: str) -> Model:
        """The stack where each defence that has this stand-in is replaced by it, and every other by its best one."""
        inner = self.model.through(way) if isinstance(self.model, Defence) else self.model
        mine = self.around(inner)
        stand_ins = mine.stand_ins()
        return stand_ins.get(way) or next(iter(stand_ins.values()), mine)

    def _ways(self) -> dict[str, Model]:
        """The stand-ins of all parts of the stack, the outermost first."""
        inner = self.model._ways() if isinstance(self.model, Defence) else {}
        mine = self.stand_ins()
        return {**mine, **{name: way for name, way in inner.items() if name not in mine}}


def surfaces_of(model: Model, thorough: bool = True) -> Sequence[Surface]:
    """How `model` must be attacked: a defence declares it, any other model is attacked directly."""
    declared = model.attack_surfaces() if isinstance(model, Defence) else (Surface("direct", model),)
    return [surface for surface in declared if thorough or not surface.thorough]


def ways_into(model: Model) -> dict[str, Model]:
    """By the names of their surfaces, the stand-ins with which attackers who know the defence replace it by default."""
    known = [one for one in surfaces_of(model, thorough=False) if one.knows_defence and one.in_union]
    return {one.name: one.through for one in known if one.through is not model}


def declares_chance(model: Model) -> bool:
    """Whether any defence of a stack says itself that it draws at random, and is not only taken to."""
    if not isinstance(model, Defence):
        return False
    said = "randomised" in vars(model) or any("randomised" in vars(one) for one in _beneath(type(model)))
    return (said and model.randomised) or declares_chance(model.model)


def _beneath(kind: type[Defence]) -> list[type]:
    """The classes that come before Defence."""
    return list(kind.__mro__[: kind.__mro__.index(Defence)])


def knobs_of(model: Model) -> dict[str, str]:
    """What can be turned in a stack of defences at any time, by name, with a line of help."""
    if not isinstance(model, Defence):
        return {}
    return {**knobs_of(model.model), **model.knobs}


__all__ = [
    "Averaged",
    "Cost",
    "Defence",
    "StraightThrough",
    "Surface",
    "declares_chance",
    "knobs_of",
    "surfaces_of",
    "ways_into",
]
