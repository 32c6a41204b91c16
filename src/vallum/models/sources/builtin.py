"""Trained models that come with vallum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vallum.errors import UserError
from vallum.models.model import Model
from vallum.models.request import MODEL_SOURCES, Request
from vallum.models.saving import CARD
from vallum.models.sources.folder import load_folder
from vallum.specs import Source

SHIPPED = Path(__file__).parent.parent / "weights"


def builtin_names() -> list[str]:
    """What `builtin:NAME` can name."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CARD}"))


@MODEL_SOURCES.register("builtin")
def load_builtin(source: Source, request: Request) -> Model:
    """A trained model that comes with vallum: builtin:signs_resnet."""
    if source.rest not in builtin_names():
        known = ", ".join(builtin_names()) or "none in this installation"
        raise UserError(f"no built-in model is called {source.rest!r}", f"there are: {known}")
    return load_folder(replace(source, rest=str(SHIPPED / source.rest)), request)
