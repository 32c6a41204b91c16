"""What a training that was killed needs to go on as if nothing had happened: one file, whole or absent."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from vallum.disk import write_whole
from vallum.errors import UserError

FILE = "checkpoint.pt"
FORMAT = 1


def write_checkpoint(folder: Path, state: dict[str, Any], plan: dict[str, Any]) -> None:
    """A kill at any moment leaves the old file or the new one."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            torch.save({"format": FORMAT, "plan": plan, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())  # so that a machine that goes down does not keep the name and lose the content

    try:
        write_whole(folder / FILE, write)
    except OSError as error:
        raise UserError(f"the checkpoint cannot be written: {error}", remedy="free some room") from None


def read_checkpoint(folder: Path, plan: dict[str, Any]) -> dict[str, Any] | None:
    """The state of the run in `folder`, None where there is none; refuses that of a run with another plan."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)  # tensors and plain values, no code
        known, state = found["format"], found["state"]
    except (RuntimeError, EOFError, LookupError, TypeError, pickle.UnpicklingError) as error:
        first = str(error).partition("\n")[0]
        raise UserError(f"{path} is no checkpoint of vallum", first, "give another out=, or delete it") from None
    if known != FORMAT:
        raise UserError(f"{path} has format {known}", f"this vallum reads format {FORMAT}", "use the vallum it is of")
    differing = _differences(found["plan"], plan)
    if differing:
        raise UserError(
            f"{folder} holds a training with other settings",
            differing,
            "give the same settings to go on with it, another out= to keep it, or fresh=True (--fresh) to start over",
        )
    return state


def _differences(held: dict[str, Any], wanted: dict[str, Any]) -> str:
    held, wanted = (json.loads(json.dumps(plan)) for plan in (held, wanted))  # tuples and lists are one
    return ", ".join(
        f"{name} was {held.get(name)!r}, now {wanted.get(name)!r}"
        for name in sorted({*held, *wanted})
        if held.get(name) != wanted.get(name)
    )
