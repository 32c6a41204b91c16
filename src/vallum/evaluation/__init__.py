"""The measurement: a plan of independent cells, a row per image, and what the rows say."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vallum.evaluation.evaluator import evaluate
    from vallum.evaluation.radius import eps_star
    from vallum.evaluation.run import Run
    from vallum.evaluation.transfer import transfer_matrix

# Imported when first asked for: who reads a run need not wait for torch.
_WHERE = {
    "Run": "vallum.evaluation.run",
    "eps_star": "vallum.evaluation.radius",
    "evaluate": "vallum.evaluation.evaluator",
    "transfer_matrix": "vallum.evaluation.transfer",
}
__all__ = ["Run", "eps_star", "evaluate", "transfer_matrix"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vallum.evaluation' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
