"""Attacks that vallum did not write: any callable, and the attack objects of other libraries, as they are.

What they return is verified before it counts, as that of every threat: shape, range, and the ball where one is given.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vallum.errors import UserError, a
from vallum.marks import mark_of
from vallum.own_code import find
from vallum.specs import parameter, write_value
from vallum.threats.base import THREATS, Budget, Threat, check_radius
from vallum.threats.foreign import LIBRARIES, Ball, Run, ball_of, library_of, runner_of
from vallum.threats.norms import norm_named
from vallum.threats.search import frozen


class _Found(NamedTuple):
    """What an attack led to when it was named: an edit of its file while it is at work changes nothing."""

    attack: Any
    callable: Any
    mark: str


@THREATS.register("own")
@dataclass(frozen=True)
class Own(Threat):
    """An attack, noise or corruption of your own: a function `(model, images, labels) -> images`; others' objects.

    Objects of torchattacks, foolbox, ART, adv-lib and pyautoattack are taken as they are, and pointed at whatever is to
    be attacked. With `eps` it is verified that no image leaves the ball; without, the ball is the one that the object
    says it keeps to, if it says so. With `kind="noise"` or `"corruption"` it need not ask the model, and is no part of
    the worst attack.

    >>> def halve(model, images, labels): return images / 2
    >>> Own(halve, eps=0.5, norm="inf").budget.eps
    0.5
    """

    attack: Any = parameter("FILE.py:function or pkg.module:function; in Python the function or object itself")
    eps: float | None = parameter("radius of the ball that it must not leave; none: what it says itself", None)
    norm: Literal["inf", "2", "1", "0"] | None = parameter("in which the radius is measured", None)
    seed: int = parameter("of torch's random numbers, for those that draw", 0)
    kind: Literal["attack", "noise", "corruption"] = parameter(  # type: ignore[misc]
        "what it is: noise and corruptions need not ask the model, and are no part of the worst attack", "attack"
    )

    found: _Found | None = field(
        default=None, kw_only=True, repr=False, compare=False, metadata={"hidden": True, "help": "set when it is made"}
    )

    def __post_init__(self) -> None:
        if self.found is None or self.found.attack is not self.attack:
            made = self._find()
            object.__setattr__(self, "found", _Found(self.attack, made, mark_of(made)))
        if self.kind not in ("attack", "noise", "corruption"):
            raise UserError(f"kind={self.kind!r}", "one of attack, noise, corruption")
        _refuse_other_signatures(self.callable, self.attack if isinstance(self.attack, str) else _name(self.attack))
        said = ball_of(self.callable)
        eps, norm = self.eps if self.eps is not None else said.eps, self.norm or said.norm
        if eps is not None and norm is None:
            norm = "inf"
        if norm is not None:
            norm_named(norm)
        if eps is not None and norm is not None:
            check_radius(eps, norm_named(norm).name)
        object.__setattr__(self, "_ball", Ball(eps, norm))

    def _find(self) -> Any:
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
    def callable(self) -> Any:
        assert self.found is not None
        if self.found.callable is None:  # it has come from another process
            object.__setattr__(self, "found", self.found._replace(callable=self._find()))
        return self.found.callable

    def __getstate__(self) -> dict[str, Any]:
        """Without what a name led to, which may be in a file that another process does not import."""
        assert self.found is not None
        named = isinstance(self.attack, str)
        return {**vars(self), "found": self.found._replace(callable=None) if named else self.found}

    @property
    def fingerprint(self) -> str:
        assert self.found is not None
        return self.found.mark

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
        """By name, in Python with a mark of what it is made of: there the name alone does not lead to it again."""
        where = self.attack if isinstance(self.attack, str) else f"{_name(self.attack)}@{self.fingerprint}"
        extras = (("eps", self.eps), ("norm", self.norm), ("seed", self.seed or None))
        kind = [] if self.kind == "attack" else [f"kind={self.kind}"]
        return ",".join(
            [f"own:{where}", *(f"{name}={write_value(value)}" for name, value in extras if value is not None), *kind]
        )

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        asked = _Asked(model)
        attack: Run = runner_of(self.callable, asked, self.ball)
        with torch.random.fork_rng(), frozen(model):
            torch.manual_seed(self.seed)
            found = attack(images.detach().clone(), labels.clone())
        if not isinstance(found, Tensor):
            raise UserError(f"{self.spec} returns {a(found)}", "the images, a tensor", "return them alone")
        if self.kind == "attack" and not asked.times:
            raise UserError(
                f"{self.spec} never asked the model that it was to attack",
                "it looks at another, or at none",
                "use the model that it is called with; of what is no attack say kind=noise or kind=corruption",
            )
        return found.detach().to(images)


def _refuse_other_signatures(attack: Any, name: str) -> None:
    """Raise for a callable that is not made to be called with a model, images and labels."""
    if library_of(attack) in LIBRARIES and not hasattr(attack, "__code__"):
        return  # which are called in their library's own way
    try:
        signature = inspect.signature(attack)
    except (TypeError, ValueError):  # of what is written in C nothing is known
        return
    try:
        signature.bind(None, None, None)
    except TypeError as problem:
        raise UserError(
            f"{name}{signature} cannot be called with (model, images, labels)",
            str(problem),
            "write def attack(model, images, labels): ..., and settings with defaults or by functools.partial",
        ) from None


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
