"""Models that vallum saved."""

from __future__ import annotations

import os
from pathlib import Path

from vallum.errors import UserError
from vallum.models.model import Model
from vallum.models.request import MODEL_SOURCES, Request, guess_value, make_model
from vallum.models.saving import CARD, WEIGHTS, saved_facts
from vallum.models.state import load_strictly, read_weights, refuse_pickle, tensors_fingerprint
from vallum.specs import Source

FORMS = "a saved folder, FILE.py:function, pkg.module:function, FILE.onnx, or SCHEME:NAME as timm:resnet18"


@MODEL_SOURCES.register("folder")
def load_folder(source: Source, request: Request) -> Model:
    """A folder that vallum saved: FOLDER or folder:FOLDER. Options: trust=true lets it name code of yours."""
    folder = Path(source.rest).expanduser()
    if not source.rest:
        raise UserError("the name of a model is empty", "a model comes from " + FORMS)
    if not os.path.isdir(folder):
        raise _not_a_folder(folder)
    source.refuse_unknown("trust")
    if request.saved:
        raise UserError(f"{folder} is named by another saved folder", remedy="load it on its own, and save it again")
    facts = saved_facts(folder)
    weights = read_weights(folder / WEIGHTS)
    said = Request.of(
        classes=request.classes or facts.get("classes"),
        task=request.task or facts.get("task"),
        mean=facts.get("mean") if request.mean is None else request.mean,
        std=facts.get("std") if request.std is None else request.std,
        outputs=facts.get("outputs", "logits") if request.outputs == "logits" else request.outputs,
        trust=request.trust or guess_value(source.options.get("trust", "false")) is True,
        saved=True,
    )
    model = make_model(facts["build"], said)
    load_strictly(model, weights, folder / WEIGHTS)
    if tensors_fingerprint(model.state_dict()) != facts["weights"]:
        raise UserError(
            f"the weights in {folder} are not those that {CARD} describes",
            "both are written by one save",
            "save the model again",
        )
    model.build = facts["build"]
    model.size = tuple(facts["size"]) if facts.get("size") else None
    return model


def _not_a_folder(path: Path) -> UserError:
    """What to say of a path that is no saved folder, which is every text that no other source understands."""
    refuse_pickle(path)
    if path.suffix == ".py":
        return UserError(
            f"{path} is a Python file", "the function that returns the model is needed too", f"write {path}:function"
        )
    if path.suffix == ".safetensors":
        return UserError(
            f"{path} holds weights, not a network", remedy=f"name the network too, as timm:resnet18?weights={path}"
        )
    return UserError(
        f"{path} is a file" if os.path.exists(path) else f"there is no folder {path}", "a model comes from " + FORMS
    )
