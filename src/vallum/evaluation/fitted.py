"""What was fitted, read from the files that it was left in, without waiting for torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vallum.errors import UserError
from vallum.evaluation.store import Finished


def facts_of(path: Path) -> dict[str, Any]:
    """How the perturbation in a file was found, what it looks like and what it does."""
    try:
        with safe_open(path, "np") as file:
            found: dict[str, Any] = json.loads(file.metadata()["facts"])
            return found
    except (OSError, SafetensorError, LookupError, ValueError, TypeError) as problem:
        raise UserError(f"{path} is damaged", str(problem), "delete it, and run the same command again") from None


def took(path: Path) -> Finished:
    """What the search has cost."""
    facts = facts_of(path)
    forwards, backwards = (sum(int(fold[name]) for fold in facts["folds"]) for name in ("forwards", "backwards"))
    return Finished(forwards, backwards, float(facts["seconds"]), {})
