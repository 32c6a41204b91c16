"""The measurement: a plan of independent cells, a row per image, and what the rows say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vallum.lazy import lazily

if TYPE_CHECKING:
    from vallum.evaluation.evaluator import evaluate
    from vallum.evaluation.patches import evaluate_patches
    from vallum.evaluation.radius import eps_star
    from vallum.evaluation.run import Run
    from vallum.evaluation.transfer import transfer_matrix

# Imported when first asked for: who reads a run need not wait for torch.
_WHERE = {
    "Run": "vallum.evaluation.run",
    "eps_star": "vallum.evaluation.radius",
    "evaluate": "vallum.evaluation.evaluator",
    "evaluate_patches": "vallum.evaluation.patches",
    "transfer_matrix": "vallum.evaluation.transfer",
}
__all__ = ["Run", "eps_star", "evaluate", "evaluate_patches", "transfer_matrix"]


__getattr__ = lazily(__name__, _WHERE)
