"""Everything that can happen to an image: noise, corruptions and attacks, each registered under its name."""

from __future__ import annotations

from typing import Any

from vallum.threats import (  # noqa: F401  (each registers itself)
    apgd,
    clean,
    corruptions,
    ddn,
    energy,
    feature,
    fgsm,
    fmn,
    hop_skip_jump,
    momentum,
    noise,
    own,
    padam,
    patch,
    pgd,
    random_search,
    sensor,
    sigma_zero,
    spatial,
    spsa,
    square,
    strong,
    transfer,
    universal,
    warp,
)
from vallum.threats.apgd import APGD, TargetedAPGD
from vallum.threats.base import THREATS, Budget, Threat
from vallum.threats.clean import Clean
from vallum.threats.compose import Compose, chain
from vallum.threats.ddn import DDN
from vallum.threats.energy import EqualEnergy, realised_rms, realised_snr
from vallum.threats.feature import Feature
from vallum.threats.fgsm import FGSM
from vallum.threats.fmn import FMN
from vallum.threats.hop_skip_jump import HopSkipJump
from vallum.threats.momentum import Momentum
from vallum.threats.noise import Gaussian, SaltPepper, Speckle, Uniform
from vallum.threats.own import Own
from vallum.threats.padam import PAdam
from vallum.threats.patch import Patch
from vallum.threats.pgd import PGD
from vallum.threats.random_search import RandomSearch
from vallum.threats.sensor import PoissonGaussian
from vallum.threats.sigma_zero import SigmaZero
from vallum.threats.spatial import Spatial
from vallum.threats.spsa import SPSA
from vallum.threats.square import Square
from vallum.threats.strong import Strong
from vallum.threats.transfer import Transfer
from vallum.threats.universal import Found, Pattern, Perturbation, Universal, UniversalDeepFool, UniversalPatch
from vallum.threats.warp import Warp

__all__ = [
    "APGD",
    "DDN",
    "FGSM",
    "FMN",
    "PGD",
    "SPSA",
    "THREATS",
    "Budget",
    "Clean",
    "Compose",
    "EqualEnergy",
    "Feature",
    "Found",
    "Gaussian",
    "HopSkipJump",
    "Momentum",
    "Own",
    "PAdam",
    "Patch",
    "Pattern",
    "Perturbation",
    "PoissonGaussian",
    "RandomSearch",
    "SaltPepper",
    "SigmaZero",
    "Spatial",
    "Speckle",
    "Square",
    "Strong",
    "TargetedAPGD",
    "Threat",
    "Transfer",
    "Uniform",
    "Universal",
    "UniversalDeepFool",
    "UniversalPatch",
    "Warp",
    "realised_rms",
    "realised_snr",
    "threat",
]


def threat(what: Any) -> Threat:
    """The threat that a spec names, or a chain of them as "fog:3+jpeg:2"; a threat itself comes back as it is.

    An attack of your own, `(model, images, labels) -> images`, or an attack object of another library is wrapped.

    >>> threat("pgd:eps=8/255,steps=20")
    PGD(eps=0.03137254901960784, norm='inf', steps=20, step_size=None, restarts=1, loss='cross_entropy', ...)
    """
    if isinstance(what, str):
        return chain(what)
    return what if isinstance(what, Threat) else Own(what)
