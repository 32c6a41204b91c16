"""A model as a folder: vallum.json says how to build it, weights.safetensors what it has learnt."""

from __future__ import annotations

import json
import platform
from numbers import Number
from pathlib import Path
from typing import Any

from safetensors.torch import save

from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.machine import version_of
from vallum.models.model import Model
from vallum.models.state import tensors_fingerprint

CARD, WEIGHTS = "vallum.json", "weights.safetensors"
FORMAT = 1
_LISTS: dict[str, type] = {"classes": object, "size": int, "mean": Number, "std": Number}  # each may be absent
_RECORDED = ("vallum", "torch", "timm", "torchvision", "segmentation-models-pytorch", "transformers", "onnx2torch")


def save_model(model: Model, folder: str | Path, *, build: str | None = None, **extra: Any) -> Path:
    """Write `model` into `folder`, from which `load_model(folder)` makes it again, bit for bit.

    `build` names a source that makes the architecture, for a model that was made in Python: "nets.py:make?depth=4".
    `extra` are facts to keep beside it: the command that made it, the fingerprint of its training data.
    """
    facts = model.facts()
    facts["build"] = build or facts["build"]
    if not facts["build"]:
        raise UserError(
            f"this {type(model).__name__} was made in Python",
            "a folder must say how to build the network before its weights are loaded",
            "pass build='file.py:function' naming a function that returns the untrained network",
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Copies, because safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    card = {"format": FORMAT, **facts, "weights": tensors_fingerprint(tensors), "versions": _versions(), "extra": extra}
    text = json.dumps(card, indent=2, default=str) + "\n"
    # Not safetensors' save_file, which makes the file private to its owner.
    write_whole(folder / WEIGHTS, lambda path: path.write_bytes(save(tensors)))
    write_whole(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def saved_facts(folder: str | Path) -> dict[str, Any]:
    """What vallum.json in a saved folder says."""
    card = Path(folder).expanduser() / CARD
    if not card.is_file():
        raise UserError(
            f"{folder} holds no {CARD}", "a folder written by vallum", "name the folder, or a .py file with :function"
        )
    try:
        facts = json.loads(card.read_text(encoding="utf-8"))
        known = facts["format"], facts["build"], facts["weights"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{card} is damaged", f"{type(error).__name__}: {error}", "save the model again") from None
    if known[0] != FORMAT:
        raise UserError(
            f"{card} has format {known[0]}", f"this vallum reads format {FORMAT}", "use the vallum that wrote it"
        )
    for name in ("build", "weights", *_LISTS):
        value = facts.get(name)
        if name not in _LISTS:
            fits = isinstance(value, str)
        else:
            fits = value is None or (isinstance(value, list) and all(isinstance(part, _LISTS[name]) for part in value))
        if not fits:
            raise UserError(f"{card} is damaged", f"{name} is {value!r}", "save the model again")
    return facts


def _versions() -> dict[str, str]:
    found = {package: version for package in _RECORDED if (version := version_of(package)) is not None}
    return {"python": platform.python_version(), **found}
