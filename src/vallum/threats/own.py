"""Attacks that vallum did not write: any callable, and the attack objects of other libraries, as they are.

What they return is verified before it counts, as that of every threat: shape, range, and the ball where one is given.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.own_code import find
from vallum.specs import parameter, write_value
from vallum.threats.base import THREATS, Budget, Threat, check_radius
from vallum.threats.foreign import LIBRARIES, Ball, Run, ball_of, library_of, runner_of
from vallum.threats.norms import norm_named
from vallum.threats.search import frozen


@THREATS.register("own")
@dataclass(frozen=True)
class Own(Threat):
    """An attack of your own: a function `(model, images, labels) -> images`, or an object of another library's.

    Objects of torchattacks, foolbox, ART, adv-lib and pyautoattack are taken as they are, and pointed at whatever is to
    be attacked. With `eps` it is verified that no image leaves the ball; without, the ball is the one that the object
    says it keeps to, if it says so.

    >>> def halve(model, images, labels): return images / 2
    >>> Own(halve, eps=0.5, norm="inf").budget.eps
    0.5
    """

    attack: Any = parameter("FILE.py:function or pkg.module:function; in Python the function or object itself")
    eps: float | None = parameter("radius of the ball that it must not leave; none: what it says itself", None)
    norm: Literal["inf", "2", "1", "0"] | None = parameter("in which the radius is measured", None)
    seed: int = parameter("of torch's random numbers, for those that draw", 0)

    kind = "attack"

    def __post_init__(self) -> None:
        said = ball_of(self.callable)
        eps, norm = self.eps if self.eps is not None else said.eps, self.norm or said.norm
        if eps is not None and norm is None:
            norm = "inf"
        if norm is not None:
            norm_named(norm)
        if eps is not None and norm is not None:
            check_radius(eps, norm_named(norm).name)
        object.__setattr__(self, "_ball", Ball(eps, norm))

    @property
    def callable(self) -> Any:
        if isinstance(self.attack, str):
            where, _, name = self.attack.rpartition(":")
            if not where:
                raise UserError(
                    f"{self.attack!r} names no attack", remedy="write FILE.py:function or pkg.module:function"
                )
            return find(where, name, "attack", THREATS)
        known = callable(self.attack) or library_of(self.attack) in LIBRARIES
        if isinstance(self.attack, type) or not known:
            raise UserError(
                f"{str(self.attack)[:60]} is no threat",
                "a spec, a threat, or a callable (model, images, labels) -> images",
                "write it as 'pgd:eps=8/255', or as PGD(8 / 255)",
            )
        return self.attack

    @property
    def ball(self) -> Ball:
        return self._ball  # type: ignore[attr-defined]

    @property
    def budget(self) -> Budget | None:
        if self.ball.eps is None or self.ball.norm is None:
            return None
        return Budget(norm_named(self.ball.norm), self.ball.eps)

    @property
    def targeted(self) -> bool:
        return bool(getattr(self.callable, "targeted", False))

    @property
    def passes(self) -> float:
        steps = getattr(self.callable, "steps", None) or getattr(self.callable, "max_iter", None)
        return 3.0 * steps + 1 if isinstance(steps, int) else 100.0

    @property
    def spec(self) -> str:
        """By name, and a mark of what it is made of, so that a changed attack is not taken for the one before."""
        if isinstance(self.attack, str):
            text = f"own:{self.attack}"
        else:
            text = f"own:{_name(self.attack)}@{_mark(self.attack)}"
        extras = (("eps", self.eps), ("norm", self.norm), ("seed", self.seed or None))
        return ",".join([text, *(f"{name}={write_value(value)}" for name, value in extras if value is not None)])

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        asked = _Asked(model)
        attack: Run = runner_of(self.callable, asked, self.ball)
        with torch.random.fork_rng(), frozen(model):
            torch.manual_seed(self.seed)
            found = attack(images.detach().clone(), labels.clone())
        if not isinstance(found, Tensor):
            raise UserError(
                f"{self.spec} returns a {type(found).__name__}", "the images, a tensor", "return them alone"
            )
        if not asked.times:
            raise UserError(
                f"{self.spec} never asked the model that it was to attack",
                "it looks at another, or at none",
                "use the model that it is called with",
            )
        return found.detach().to(images)


class _Asked(nn.Module):
    """Counts how often a model is asked: an attack that never does attacks something else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.times = model, 0
        self.training = getattr(model, "training", False)  # its own alone: what is inside stays as it is

    def forward(self, images: Tensor) -> Tensor:
        self.times += 1
        return self.model(images)


def _name(attack: Any) -> str:
    while isinstance(attack, functools.partial):
        attack = attack.func
    named = attack if hasattr(attack, "__qualname__") else type(attack)
    return f"{(named.__module__ or '').partition('.')[0]}.{named.__qualname__.rpartition('.')[2]}"


def _mark(attack: Any) -> str:
    """Eight letters that change with the code of a function and with the settings of an object."""
    made = re.sub(r" at 0x[0-9a-f]+", "", repr(_made_of(attack)))
    return hashlib.blake2b(made.encode(), digest_size=4).hexdigest()


def _made_of(attack: Any, depth: int = 3) -> Any:
    if isinstance(attack, functools.partial):
        return _made_of(attack.func), attack.args, sorted(attack.keywords.items())
    if code := getattr(attack, "__code__", None):
        held = [_made_of(cell.cell_contents, depth - 1) for cell in attack.__closure__ or ()] if depth else []
        return code.co_code, _constants(code), code.co_names, attack.__defaults__, held
    if isinstance(attack, bool | int | float | str | type(None)):
        return attack
    if isinstance(attack, list | tuple):
        return [_made_of(one, depth) for one in attack]
    if isinstance(attack, nn.Module | Tensor) or depth == 0 or not hasattr(attack, "__dict__"):
        return type(attack).__name__
    return [type(attack).__name__, *sorted((k, _made_of(v, depth - 1)) for k, v in vars(attack).items())]


def _constants(code: Any) -> list[Any]:
    return [(c.co_code, _constants(c)) if inspect.iscode(c) else c for c in code.co_consts]
