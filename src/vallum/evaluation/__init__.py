"""The measurement: a plan of independent cells, a row per image, and what the rows say."""

from __future__ import annotations

from vallum.evaluation.evaluator import evaluate
from vallum.evaluation.run import Run

__all__ = ["Run", "evaluate"]
