"""Models that the user's own code makes."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from vallum.errors import UserError, did_you_mean
from vallum.models.model import Model
from vallum.models.request import MODEL_SOURCES, Request, guess_value
from vallum.models.state import refuse_pickle
from vallum.specs import Source


@MODEL_SOURCES.register("python")
def load_python(source: Source, request: Request) -> Model:
    """What your own function returns: pkg.module:function or FILE.py:function, with ?name=value as its arguments."""
    where, _, name = source.rest.rpartition(":")
    if not where or not name:
        raise UserError(
            f"{source.rest!r} names no function", "a module and a function in it", "write pkg.module:function"
        )
    if request.saved and not request.trust:
        raise UserError(
            f"this saved model is built by running code: {source.rest}",
            "code in a folder from somebody else can do anything",
            "if you trust it, say so: load_model(folder, trust=True), or FOLDER?trust=true",
        )
    function = _find(where, name)
    made = function
    if not isinstance(function, nn.Module):
        made = function(**_arguments(function, source))
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{source.rest} returns a {type(made).__name__}",
            "a function that takes no images and returns the model, a torch.nn.Module, is needed",
            "return the model from it; in Python, load_model also takes a callable from images to logits",
        )
    made.eval()
    path = Path(where).expanduser()
    stays = Source("python", f"{path.absolute() if path.suffix == '.py' else where}:{name}", source.options)
    if isinstance(made, Model):
        made.build = made.build or str(stays)
        return request.keep(made)
    return request.wrap(made, build=stays)


def _find(where: str, name: str) -> Any:
    """The function in the file or module."""
    refuse_pickle(Path(where).expanduser())
    module = _run_file(Path(where).expanduser()) if where.endswith(".py") else _import(where)
    try:
        found = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{where} has no {name!r}", remedy=did_you_mean(name, public)) from None
    if not callable(found):
        raise UserError(f"{where}:{name} is a {type(found).__name__}", "a function that returns the model is needed")
    return found


def _import(where: str) -> ModuleType:
    _importable(os.getcwd())  # as for `python -m`
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and where != error.name and not where.startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        near = did_you_mean(where, MODEL_SOURCES)
        remedy = near if near.startswith("did you mean") else "check the spelling and the current directory"
        raise UserError(f"there is no module and no model source called {where!r}", remedy=remedy) from None


def _run_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):
        raise UserError(f"there is no file {path}", remedy="check the path; it is relative to the current directory")
    path = path.resolve()
    known = sys.modules.get(str(path))  # run once, as an import would be: it may register things
    if known is not None:
        return known
    _importable(str(path.parent))  # as for `python FILE.py`
    spec = importlib.util.spec_from_file_location(str(path), path)
    assert spec is not None  # the path ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[str(path)] = module  # dataclasses look their module up while it runs
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[str(path)]
        raise
    return module


def _importable(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _arguments(function: Any, source: Source) -> dict[str, Any]:
    """The source's options as keyword arguments; a parameter annotated as str gets its text as it stands."""
    signature = inspect.signature(function)
    texts = {name for name, parameter in signature.parameters.items() if parameter.annotation in (str, "str")}
    values = {name: text if name in texts else guess_value(text) for name, text in source.options.items()}
    try:
        signature.bind(**values)
    except TypeError as error:
        raise UserError(
            f"{source.rest} cannot be called like this", str(error), f"its parameters are {signature}"
        ) from None
    return values
