"""The one training loop: any recipe, any device, one process or many, killed and resumed without a trace."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vallum.training.loop import harden, train
    from vallum.training.settings import Settings

# Imported when first asked for: the command line reads the settings for its help, which must not wait for torch.
_WHERE = {
    "train": "vallum.training.loop",
    "harden": "vallum.training.loop",
    "Settings": "vallum.training.settings",
}
__all__ = ["Settings", "harden", "train"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vallum.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
