"""The state of a search in a file, so that one that was killed goes on where it stood, to the same patches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vallum.defences.defensive_patches.making import State
from vallum.disk import write_whole
from vallum.errors import UserError

FILE = "search.safetensors"
_TENSORS, _FACTS = ("numbers", "best", "merged"), ("step", "best_score", "passes", "seconds", "history")


def keep(state: State, folder: Path, plan: dict[str, Any]) -> None:
    tensors: dict[str, Tensor] = {name: getattr(state, name) for name in _TENSORS}
    tensors |= {f"moments.{name}": tensor for name, tensor in state.moments.items()}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    facts = {"plan": plan, **{name: getattr(state, name) for name in _FACTS}}
    said = {"state": json.dumps(facts, default=str)}
    write_whole(folder / FILE, lambda path: path.write_bytes(save(tensors, said)))


def kept(folder: Path, plan: dict[str, Any], device: torch.device) -> State | None:
    """Where the same search stood, None where there is none; a UserError where the folder holds another's."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name).to(device) for name in list(file.keys())}
    except Exception as error:  # the format's own exceptions share no base
        raise UserError(f"{path} cannot be read", str(error), "start over: --fresh") from error
    before, now = facts.pop("plan"), json.loads(json.dumps(plan, default=str))
    if before != now:
        changed = [name for name in now if before.get(name) != now[name]] or [
            name for name in before if name not in now
        ]
        raise UserError(
            f"{folder} holds a search for other patches",
            f"it differs in {', '.join(changed)}",
            "name another folder, or start over: --fresh",
        )
    moments = {name.removeprefix("moments."): tensors[name] for name in tensors if name.startswith("moments.")}
    if "step" in moments:
        moments["step"] = moments["step"].cpu()
    return State(moments=moments, **{name: tensors[name] for name in _TENSORS}, **facts)
