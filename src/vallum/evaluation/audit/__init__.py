"""The audit of an evaluation: each check does something of which the outcome is known if all is well."""

from __future__ import annotations

# In the order in which they are asked; each registers itself, the last asks what all the others left behind.
from vallum.evaluation.audit import behaviour, binarisation, controls, gradients, indicators, strength  # noqa: F401
from vallum.evaluation.audit.auditing import Audit, Finding, audit
from vallum.evaluation.audit.check import CHECKS, Check, Seen

__all__ = ["CHECKS", "Audit", "Check", "Finding", "Seen", "audit"]
