"""One way to attack a model, and what becomes of an attack there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from vallum.models.model import Model
from vallum.threats.base import Bounded, Threat
from vallum.threats.square import Square


@dataclass(frozen=True)
class Surface:
    """The attack works on `through`, and what it finds is tested on the model itself.

    `through` may be the model, a differentiable stand-in for a part that has no useful gradient, an average over its
    randomness, or the bare model beneath a defence. `knows_defence` is False where the attacker ignores the defence:
    that number is shown beside the others, labelled so, and never alone.
    """

    name: str
    through: Model
    knows_defence: bool = True
    attack: Callable[[Threat], Threat | None] | None = None  # what an attack becomes here; none: it is left out
    known_draw: bool = False  # the attacker knows the very draw that will be used against the found image
    in_union: bool = True  # False: a diagnosis beside the worst case, not a part of it
    thorough: bool = False  # only run where everything is asked for
    weight: float = 1.0  # how much longer an attack takes here than on the model itself, about: for the progress bar

    def here(self, threat: Threat) -> Threat | None:
        """What is run on this surface where `threat` is asked for."""
        return self.attack(threat) if self.attack is not None else threat


def black_box(threat: Threat) -> Threat | None:
    """Random search with as many passes, which no missing gradient can mislead; none where that is what it is.

    Nor where one perturbation is fitted for all images: the patterns that compete with it there need no gradient.
    """
    if (
        threat.fits
        or not (isinstance(threat, Bounded) and threat.needs_gradient)
        or threat.targeted
        or threat.norm not in ("inf", "2")
    ):
        return None
    return Square(threat.eps, norm=threat.norm, queries=max(100, round(threat.passes)), seed=threat.seed)


def carried_over(threat: Threat) -> Threat | None:
    """The attack that goes on to the highest loss on every image, also where the model at hand falls sooner."""
    if any(field.name == "early_stop" for field in dataclasses.fields(threat)):  # type: ignore[arg-type]
        return dataclasses.replace(threat, early_stop=False)  # type: ignore[type-var]
    return threat
