"""Worlds that are computed, not stored: nothing to download."""

from __future__ import annotations

import importlib
import typing
from typing import Any

from vallum.data.data import Data
from vallum.data.request import DATA_SOURCES, Request
from vallum.errors import UserError, did_you_mean
from vallum.specs import Source, read_value

WORLDS = {"signs": "vallum.data.worlds.signs:Signs"}  # imported when one is asked for


@DATA_SOURCES.register("builtin")
def builtin(source: Source, request: Request) -> Data:
    """Worlds made from a seed, nothing to download: builtin:signs?n=1000&size=32&split=test&seed=0"""
    if source.rest not in WORLDS:
        raise UserError(f"there is no built-in world {source.rest!r}", remedy=did_you_mean(source.rest, WORLDS))
    module, _, name = WORLDS[source.rest].partition(":")
    world = getattr(importlib.import_module(module), name)
    kinds = {name: kind for name, kind in typing.get_type_hints(world.__init__).items() if name != "return"}
    source.refuse_unknown(*kinds)
    arguments: dict[str, Any] = {
        option: read_value(text, kinds[option], f"{option} of {source.rest}") for option, text in source.options.items()
    }
    if request.size is not None:
        arguments["size"] = _size(request.size, kinds.get("size"), source.rest)
    if request.channels == 1:
        raise UserError(f"{source.rest} is in colour", "channels=3", "leave out channels=")
    return world(**arguments)


def _size(size: tuple[int, int], kind: Any, world: str) -> int | tuple[int, int]:
    if kind is not int:
        return size
    if size[0] != size[1]:
        raise UserError(f"size={size[0]}x{size[1]}", f"{world} is square", f"write size={size[0]}")
    return size[0]
