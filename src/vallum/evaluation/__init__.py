"""The measurement: a plan of independent cells, a row per image, and what the rows say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vallum.lazy import lazily

if TYPE_CHECKING:
    from vallum.evaluation.evaluator import evaluate
    from vallum.evaluation.run import Run

# Imported when first asked for: who reads a run need not wait for torch.
_WHERE = {"Run": "vallum.evaluation.run", "evaluate": "vallum.evaluation.evaluator"}
__all__ = ["Run", "evaluate"]


__getattr__ = lazily(__name__, _WHERE)
