"""Code of the user's own, named by a string: pkg.module:function, or FILE.py:function."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from vallum.errors import UserError, a, did_you_mean
from vallum.torchvision_shim import ensure_torchvision

SOURCE = "__source__"  # what is in a file that was run, by which it is known again


def find(where: str, name: str, kind: str, known: Iterable[str] = ()) -> Callable[..., Any]:
    """The function in the file or module; `kind` and what is `known` of it say what else may have been meant.

    >>> find("math", "hypot", "model source")(3, 4)
    5.0
    """
    ensure_torchvision()  # what the user's code imports may want it, timm among others
    module = _run_file(Path(where).expanduser()) if where.endswith(".py") else _import(where, kind, known)
    try:
        found = functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{where} has no {name!r}", remedy=did_you_mean(name, public)) from None
    if not callable(found):
        raise UserError(f"{where}:{name} is {a(found)}", "a function is needed")
    return found


def _import(where: str, kind: str, known: Iterable[str]) -> ModuleType:
    _importable(os.getcwd())  # as for `python -m`
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and where != error.name and not where.startswith(f"{error.name}."):
            raise  # the module is there; what it imports is not
        near = did_you_mean(where, known)
        remedy = near if near.startswith("did you mean") else "check the spelling and the current directory"
        raise UserError(f"there is no module and no {kind} called {where!r}", remedy=remedy) from None


def _run_file(path: Path) -> ModuleType:
    if not os.path.isfile(path):
        raise UserError(f"there is no file {path}", remedy="check the path; it is relative to the current directory")
    path = path.resolve()
    source = path.read_bytes()
    known = sys.modules.get(str(path))  # run once, as an import would be, until somebody edits it
    if known is not None and getattr(known, SOURCE, source) == source:
        return known
    _importable(str(path.parent))  # as for `python FILE.py`
    spec = importlib.util.spec_from_file_location(str(path), path)
    assert spec is not None  # the path ends in .py
    module = importlib.util.module_from_spec(spec)
    setattr(module, SOURCE, source)
    sys.modules[str(path)] = module  # dataclasses look their module up while it runs
    try:
        # Not by the loader: it takes what was compiled of a file of the same size and second for the same.
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[str(path)]
        raise
    return module


def _importable(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
