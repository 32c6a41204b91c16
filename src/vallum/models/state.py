"""Weights on disk: safetensors and nothing that could run code; loaded strictly, and hashed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.marks import is_own, mark_of
from vallum.models.model import Function

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
_WRAPPERS = ("module.", "_orig_mod.", "network.", "model.", "state_dict.")  # DataParallel, compile, vallum, habit


def refuse_pickle(path: Path) -> None:
    """Raise if `path` is a pickle by its name or by its first bytes."""
    start = b""
    if os.path.isfile(path):
        with path.open("rb") as file:
            start = file.read(2)
    # A torch checkpoint is a zip of pickles ("PK"); a bare pickle of protocol 2 or later starts with byte 128.
    if path.suffix.lower() in PICKLES or start == b"PK" or (start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5"):
        raise UserError(
            f"{path} is a pickle",
            "no pickle is loaded, because loading one can run any code",
            "convert it with safetensors.torch.save_file(state_dict, FILE), or write a function in a .py file "
            "that loads it and returns the model, and name FILE.py:function",
        )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file."""
    path = Path(path).expanduser()
    refuse_pickle(path)
    if not os.path.isfile(path):
        raise UserError(f"there is no file {path}", "weights in a .safetensors file", "check the path")
    try:
        return load_file(path)
    except Exception as error:  # the format's own exceptions share no base
        raise UserError(f"{path} cannot be read as safetensors", str(error), "write the file again") from error


def load_weights_option(network: nn.Module, file: str | None) -> None:
    """What ?weights=FILE asks of a source."""
    if file is not None:
        load_strictly(network, read_weights(file), file)


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], where: str | Path) -> None:
    """Copy `weights` into `network`, which takes their dtypes; every name and every shape must match."""
    wanted = network.state_dict(keep_vars=True)
    for prefix in _WRAPPERS:
        if not wanted.keys() & weights.keys() and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    complaints = [
        _complaint("it lacks", [name for name in wanted if name not in weights]),
        _complaint("the network has no", [name for name in weights if name not in wanted]),
        _complaint(
            "shapes differ:",
            [
                f"{name} is {tuple(weights[name].shape)}, the network's {tuple(tensor.shape)}"
                for name, tensor in wanted.items()
                if name in weights and weights[name].shape != tensor.shape
            ],
        ),
    ]
    if any(complaints):
        raise UserError(
            f"the weights in {where} do not fit the network",
            ", ".join(filter(None, complaints)),
            "name the architecture and the number of classes that they were trained with",
        )
    for name, tensor in wanted.items():
        tensor.data = tensor.data.to(weights[name].dtype)  # so that a network saved in half precision comes back in it
    network.load_state_dict(dict(weights), strict=True)


def weights_fingerprint(model: nn.Module) -> str:
    """A short hash of every tensor in a model: weights, statistics, normalisation.

    What is not a tensor a module may tell in a string called `fingerprint`. Of a plain callable no more is known than
    its name and its code, which the ending says.

    >>> norm = nn.BatchNorm2d(3)
    >>> before = weights_fingerprint(norm)
    >>> _ = norm(torch.rand(2, 3, 4, 4))  # in training mode, its statistics move
    >>> weights_fingerprint(norm) == before
    False
    """
    told = {name: getattr(module, "fingerprint", None) for name, module in model.named_modules()}
    notes = "\0".join(f"{name}={note}" for name, note in told.items() if note is not None)
    digest = tensors_fingerprint({**model.state_dict(), **dict(model.named_buffers())}, notes)
    return digest + ("+callable" if any(isinstance(module, Function) for module in model.modules()) else "")


def model_fingerprint(model: nn.Module) -> str:
    """The same with all else that decides what a model answers, so that results kept of another are told apart.

    That is which modules it is made of, and how they show themselves; of those whose class is the user's own the code
    and the plain settings too, but for attributes that begin with an underscore.

    >>> one, other = (nn.Sequential(nn.Conv2d(3, 2, 1), layer) for layer in (nn.ReLU(), nn.Tanh()))
    >>> _ = other.load_state_dict(one.state_dict())
    >>> weights_fingerprint(one) == weights_fingerprint(other), model_fingerprint(one) == model_fingerprint(other)
    (True, False)
    """
    made = [(name, type(module), _shown(module), _settings(module)) for name, module in model.named_modules()]
    return f"{weights_fingerprint(model)}-{mark_of(made)}"


def _shown(module: nn.Module) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())


def _settings(module: nn.Module) -> dict[str, Any]:
    if not is_own(type(module)):
        return {}
    return {name: value for name, value in vars(module).items() if name != "training" and not name.startswith("_")}


def tensors_fingerprint(tensors: Mapping[str, Tensor], notes: str = "") -> str:
    """A short hash of names, types, shapes and bytes, whatever the order."""
    digest = hashlib.blake2b(notes.encode(), digest_size=8)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _complaint(verb: str, names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{verb} {', '.join(names[:3])}{more}" if names else ""
