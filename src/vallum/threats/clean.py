"""Nothing at all: the measure for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vallum.specs import parameter
from vallum.threats.base import THREATS, Threat


@THREATS.register("clean")
@dataclass(frozen=True)
class Clean(Threat):
    """The images as they are; every evaluation starts with it."""

    seed: int = parameter("of nothing", 0, hidden=True)
    kind = "clean"

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return images
