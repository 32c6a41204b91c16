"""The one training loop: any recipe, any device, one process or many, killed and resumed without a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vallum.lazy import lazily

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


__getattr__ = lazily(__name__, _WHERE)
