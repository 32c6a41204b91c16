"""The audit of an evaluation: each check does something of which the outcome is known if all is well."""

from __future__ import annotations

# In the order in which they are asked: the last asks what all the others left behind.
# isort: off
from vallum.evaluation.audit import gradients  # noqa: F401
from vallum.evaluation.audit import strength  # noqa: F401
from vallum.evaluation.audit import controls  # noqa: F401
from vallum.evaluation.audit import binarisation  # noqa: F401
from vallum.evaluation.audit import indicators  # noqa: F401
from vallum.evaluation.audit import behaviour  # noqa: F401
# isort: on

from vallum.evaluation.audit.auditing import Audit, audit
from vallum.evaluation.audit.check import CHECKS, Check, Seen

__all__ = ["CHECKS", "Audit", "Check", "Seen", "audit"]
