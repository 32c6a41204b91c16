"""Names that a package imports when they are first asked for, so that importing it, or `--help`, answers at once."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def lazily(package: str, where: dict[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`: each name comes from its module.

    >>> lazily("shapes", {"sqrt": "math"})("sqrt")(9)
    3.0
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(where[name]), name)

    return get
