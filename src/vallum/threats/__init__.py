"""Everything that can happen to an image: noise, corruptions and attacks, each registered under its name."""

from __future__ import annotations

from vallum.threats import noise, pgd, random_search  # noqa: F401  (each registers itself)
from vallum.threats.base import THREATS, Budget, Threat
from vallum.threats.noise import Gaussian, SaltPepper
from vallum.threats.pgd import PGD
from vallum.threats.random_search import RandomSearch

__all__ = ["PGD", "THREATS", "Budget", "Gaussian", "RandomSearch", "SaltPepper", "Threat", "threat"]


def threat(spec: str | Threat) -> Threat:
    """The threat that a spec names; a threat itself comes back as it is.

    >>> threat("pgd:eps=8/255,steps=20")
    PGD(eps=0.03137254901960784, norm='inf', steps=20, step_size=None, restarts=1, loss='cross_entropy', ...)
    """
    return THREATS.parse(spec) if isinstance(spec, str) else spec
