"""vallum: measure how robust a vision model really is, harden it, and show honestly what that bought.

>>> import vallum
>>> model = vallum.load_model("builtin:signs_resnet")
>>> data = vallum.load_data("builtin:signs?split=test")
>>> run = vallum.evaluate(model, data, ["gaussian:std=0.1", "pgd:eps=4/255"], out="runs/first")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vallum.data import load_data
    from vallum.errors import UserError
    from vallum.evaluation import evaluate
    from vallum.models import load_model
    from vallum.threats import threat
    from vallum.training import harden, train

# Imported when first asked for, so that `import vallum` and `vallum --help` answer at once.
_WHERE = {
    "load_model": "vallum.models",
    "load_data": "vallum.data",
    "threat": "vallum.threats",
    "evaluate": "vallum.evaluation",
    "train": "vallum.training",
    "harden": "vallum.training",
    "UserError": "vallum.errors",
}
__all__ = ["load_model", "load_data", "threat", "evaluate", "train", "harden", "UserError", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vallum' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
