"""What a user's own code and its settings are, in a few letters, so that results kept of other code are told apart.

What is installed counts by its name. All else counts by what it is made of, and by what it calls of the user's own: as
it runs in this process, whatever became of its file since.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Set
from enum import Enum
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), PurePath, torch.dtype, torch.device, Enum)
ENTERED = (*PLAIN, list, tuple, Set, Mapping, FunctionType, type, functools.partial, Tensor, np.ndarray, np.generic)
OURS = tuple(f"{Path(folder).resolve()}{os.sep}" for folder in (sysconfig.get_path("stdlib"), Path(__file__).parent))


def mark_of(*things: Any) -> str:
    """Eight letters that change with the code of functions and classes, and with the settings of objects.

    >>> mark_of(round, {"ndigits": 2}) == mark_of(round, {"ndigits": 2}), mark_of(2) == mark_of(3)
    (True, False)
    """
    return hashlib.blake2b(repr(_Made().of(things, 3)).encode(), digest_size=4).hexdigest()


def is_own(made: Any) -> bool:
    """Whether a function or class is the user's own: of no package that is installed, and not of vallum."""
    module = sys.modules.get(getattr(made, "__module__", None) or "builtins")
    return module is None or _is_own(module)


def _is_own(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return module.__name__ == "__main__" if file is None else not is_installed(file)


@functools.cache
def is_installed(file: str) -> bool:
    """Whether a file is of an installed package, of Python or of vallum."""
    path = Path(file).resolve()
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or str(path).startswith(OURS)


class _Made:
    """What things are made of, as nested lists that are the same in every process."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()  # functions and classes: each is gone into once

    def of(self, thing: Any, depth: int) -> Any:
        if isinstance(thing, PLAIN):
            return repr(thing)
        if isinstance(thing, list | tuple):
            return [self.of(one, depth) for one in thing]
        if isinstance(thing, Set):
            return sorted(repr(self.of(one, depth)) for one in thing)
        if isinstance(thing, Mapping):
            return sorted(repr((self.of(key, depth), self.of(value, depth))) for key, value in thing.items())
        if isinstance(thing, functools.partial):
            return [self.of(part, depth) for part in (thing.func, thing.args, thing.keywords)]
        if isinstance(thing, MethodType):
            return [self.of(thing.__func__, depth), self.of(thing.__self__, depth - 1)]
        if isinstance(thing, CodeType):
            return [thing.co_code.hex(), thing.co_names, [self.of(one, depth) for one in thing.co_consts]]
        if isinstance(thing, FunctionType | type):
            return self._code(thing, depth)
        if isinstance(thing, Tensor | np.ndarray | np.generic):
            return _content(thing)
        if hasattr(thing, "__wrapped__"):  # functools.cache, and what else keeps its function
            return self.of(thing.__wrapped__, depth)
        # A network that an attack holds is not the one that it is pointed at.
        if isinstance(thing, nn.Module | ModuleType) or depth == 0 or not hasattr(thing, "__dict__"):
            return type(thing).__qualname__
        return [self.of(type(thing), depth - 1), self.of(vars(thing), depth - 1)]

    def _code(self, thing: Any, depth: int) -> Any:
        if thing in self.seen or not is_own(thing):
            return f"{thing.__module__}.{thing.__qualname__}".rpartition(os.sep)[2]  # a file that was run has its path
        self.seen.add(thing)
        if isinstance(thing, type):
            members = {
                name: _bare(one) for name, one in vars(thing).items() if not name.endswith("__") or callable(one)
            }
            return [thing.__qualname__, self.of(thing.__bases__, depth), self.of(members, max(depth - 1, 0))]
        parts = [thing.__code__, thing.__defaults__, thing.__kwdefaults__, [_held(c) for c in thing.__closure__ or ()]]
        return self.of([*parts, *_called(thing)], depth)


def _bare(member: Any) -> Any:
    """A method without what is wrapped around it."""
    if isinstance(member, property):
        return member.fget, member.fset
    return getattr(member, "__func__", getattr(member, "func", member))


def _called(function: FunctionType) -> Iterator[Any]:
    """What a function names of the globals and of modules of the user's own, and the files that it imports itself."""
    codes = list(_codes(function.__code__))
    names = {name for code in codes for name in code.co_names}
    yield from _named(function.__globals__, names, {id(function.__globals__)})
    for code in codes:
        for one in dis.get_instructions(code):
            if one.opname == "IMPORT_NAME":
                yield _file_of(str(one.argval), function.__globals__.get("__package__") or "")


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


def _named(where: Mapping[str, Any], names: set[str], been: set[int]) -> Iterator[Any]:
    for name in sorted(names & where.keys()):
        there = where[name]
        if isinstance(there, ModuleType):
            if _is_own(there) and id(vars(there)) not in been:
                been.add(id(vars(there)))
                yield from _named(vars(there), names, been)
        elif isinstance(there, ENTERED) or hasattr(there, "__wrapped__") or is_own(type(there)):
            yield name, there
        else:
            yield name


def _file_of(name: str, package: str) -> str:
    """Of a module that a function imports while it runs, if it is the user's own: it need not be there yet."""
    for full in (name, f"{package}.{name}"):
        try:
            spec = importlib.util.find_spec(full)
        except (ImportError, ValueError, AttributeError):
            continue
        if spec and spec.origin and spec.origin.endswith(".py") and not is_installed(spec.origin):
            return hashlib.blake2b(Path(spec.origin).read_bytes(), digest_size=8).hexdigest()
    return name


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _content(thing: Any) -> str:
    if isinstance(thing, Tensor):
        numbers = thing.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    else:
        numbers = np.ascontiguousarray(thing)
    return f"{thing.dtype} {tuple(thing.shape)} {hashlib.blake2b(numbers.tobytes(), digest_size=8).hexdigest()}"
