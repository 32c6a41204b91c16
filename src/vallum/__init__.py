"""vallum: measure how robust a vision model really is, harden it, and show honestly what that bought.

>>> import vallum
>>> model = vallum.load_model("builtin:signs_resnet")
>>> data = vallum.load_data("builtin:signs?split=test")
>>> run = vallum.evaluate(model, data, ["gaussian:std=0.1", "pgd:eps=4/255"], out="runs/first")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vallum.lazy import lazily

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vallum.data import load_clips, load_data
    from vallum.defences import load_depth
    from vallum.defences.defensive_patches import make_patches
    from vallum.errors import UserError
    from vallum.evaluation import evaluate
    from vallum.evaluation.audit import audit
    from vallum.evaluation.patches import evaluate_patches
    from vallum.models import load_model
    from vallum.threats import threat
    from vallum.training import harden, train

# Imported when first asked for, so that `import vallum` and `vallum --help` answer at once.
_WHERE = {
    "load_model": "vallum.models",
    "load_data": "vallum.data",
    "load_clips": "vallum.data",
    "load_depth": "vallum.defences",
    "threat": "vallum.threats",
    "evaluate": "vallum.evaluation",
    "audit": "vallum.evaluation.audit",
    "train": "vallum.training",
    "harden": "vallum.training",
    "make_patches": "vallum.defences.defensive_patches",
    "evaluate_patches": "vallum.evaluation.patches",
    "UserError": "vallum.errors",
}
__all__ = [
    "load_model",
    "load_data",
    "load_clips",
    "load_depth",
    "threat",
    "evaluate",
    "audit",
    "train",
    "harden",
    "make_patches",
    "evaluate_patches",
    "UserError",
    "__version__",
]


__getattr__ = lazily(__name__, _WHERE)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
