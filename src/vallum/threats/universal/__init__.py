"""One perturbation for all images: found on some, met by others."""

from __future__ import annotations

from vallum.threats.universal.base import Fitted, Perturbation
from vallum.threats.universal.deepfool import UniversalDeepFool
from vallum.threats.universal.found import Found
from vallum.threats.universal.patterns import Pattern
from vallum.threats.universal.universal import Universal

__all__ = ["Fitted", "Found", "Pattern", "Perturbation", "Universal", "UniversalDeepFool"]
