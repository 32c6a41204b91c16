"""The data sets that torchvision knows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from vallum.data.data import Data
from vallum.data.objects import Items
from vallum.data.request import DATA_SOURCES, Request, refuse_unknown
from vallum.errors import UserError, did_you_mean
from vallum.specs import Source, read_value
from vallum.torchvision_shim import ensure_torchvision

_HOW_MANY = {"GTSRB": 43, "SVHN": 10, "FER2013": 7, "PCAM": 2, "USPS": 10, "SEMEION": 10}  # those without named classes
_VAL_FOR_TEST = {"ImageNet", "Imagenette", "Places365", "CLEVRClassification"}  # no labelled test split
_NOT_FROM_TEXT = {"self", "transform", "target_transform", "transforms", "loader", "is_valid_file", "size"}


@DATA_SOURCES.register(
    "torchvision",
    split="train or test, or its name",
    root="the folder that it lies in, else data",
    download="true fetches it",
)
def torchvision(source: Source, request: Request) -> Data:
    """torchvision's data sets: torchvision:CIFAR10?root=data&split=test&download=true

    What lies in `root` (the folder data, unless said) is used; nothing is downloaded unless asked. Further options go
    to the data set's constructor.
    """
    if ensure_torchvision() == "absent":
        raise UserError("torchvision is not installed", remedy="pip install torchvision")
    from torchvision import datasets

    if source.rest not in datasets.__all__ or not inspect.isclass(getattr(datasets, source.rest)):
        raise UserError(
            f"torchvision has no data set {source.rest!r}", remedy=did_you_mean(source.rest, datasets.__all__)
        )
    made = getattr(datasets, source.rest)
    takes = _parameters(made)
    refuse_unknown(source, *DATA_SOURCES.options["torchvision"], *takes)
    items = _make(made, takes, _arguments(source, takes), source.rest)
    classes = request.classes
    if classes is None and source.rest in _HOW_MANY and not getattr(items, "classes", None):
        classes = tuple(map(str, range(_HOW_MANY[source.rest])))
    return Items(items, request, classes, where=f"torchvision's {source.rest}")


def _parameters(made: type) -> dict[str, inspect.Parameter]:
    """What the constructor takes, and, as far as it passes on whatever it does not know, its parents' constructors."""
    found: dict[str, inspect.Parameter] = {}
    for layer in made.__mro__:
        if "__init__" not in vars(layer):
            continue
        own = inspect.signature(vars(layer)["__init__"]).parameters
        named = {name: parameter for name, parameter in own.items() if parameter.kind is not parameter.VAR_KEYWORD}
        found = {**named, **found}
        if len(named) == len(own):
            break
    return {name: parameter for name, parameter in found.items() if name not in _NOT_FROM_TEXT}


def _arguments(source: Source, takes: dict[str, inspect.Parameter]) -> dict[str, Any]:
    said = dict(source.options)
    arguments: dict[str, Any] = {}
    if "root" in takes:
        arguments["root"] = said.pop("root", "data")
    if "split" in takes and takes["split"].default is not inspect.Parameter.empty:
        said.setdefault("split", "val" if source.rest in _VAL_FOR_TEST else "test")
    elif "split" not in takes and "image_set" in takes:
        said.setdefault("image_set", said.pop("split", "val"))
    elif "split" not in takes and "split" in said:
        split = said.pop("split")
        if "train" in takes and split in ("train", "test"):
            said.setdefault("train", str(split == "train"))
        else:
            expected = "train or test" if "train" in takes else "it has only one"
            raise UserError(f"{source.rest} has no split {split!r}", expected)
    if "train" in takes:
        said.setdefault("train", "false")
    if "download" in takes:
        said.setdefault("download", "false")  # a few would download unasked
    for name, text in said.items():
        default = takes[name].default
        kind = type(default) if isinstance(default, bool | int | float) else str
        arguments[name] = read_value(text, kind, f"{name} of {source.rest}")
    return arguments


def _make(made: Any, takes: Mapping[str, Any], arguments: dict[str, Any], name: str) -> Any:
    try:
        return made(**arguments)
    except ValueError as error:
        raise UserError(f"torchvision's {name} does not take this", _one_line(error)) from None
    except (RuntimeError, OSError) as error:  # not found, or damaged
        download = "add &download=true, or " if "download" in takes else ""
        raise UserError(
            f"torchvision's {name} is not in {arguments.get('root')}",
            _one_line(error),
            f"{download}say where it lies: root=PATH",
        ) from None
    except (TypeError, ModuleNotFoundError) as error:
        raise UserError(f"torchvision's {name} cannot be made", _one_line(error), "add what it names") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
