"""Worlds that are computed, not stored: nothing to download."""

from __future__ import annotations

import importlib
import typing
from typing import Any

from vallum.data.clips import CLIP_SOURCES, Clips
from vallum.data.data import Data
from vallum.data.request import DATA_SOURCES, Request
from vallum.errors import UserError, did_you_mean
from vallum.specs import Source, read_value

# Imported when one is asked for.
WORLDS = {"signs": "vallum.data.worlds.signs:Signs", "streets": "vallum.data.worlds.streets:Streets"}
CLIPS = {"streets": "vallum.data.worlds.streets:StreetClips"}


@DATA_SOURCES.register("builtin", n="how many images", split="train, val or test", seed="of the world")
def builtin(source: Source, request: Request) -> Data:
    """Worlds made from a seed, nothing to download: builtin:signs?n=1000&size=32, builtin:streets?size=64x192

    `n=`, `split=` (train, val or test) and `seed=` say how many images, and which.
    """
    if request.channels == 1:
        raise UserError(f"{source.rest} is in colour", "channels=3", "leave out channels=")
    return _world(source, WORLDS, request.size)


@CLIP_SOURCES.register("builtin", n="how many clips", split="train, val or test", seed="of the world")
def builtin_clips(source: Source, size: tuple[int, int] | None) -> Clips:
    """Drives made from a seed, nothing to download: builtin:streets?n=2000&size=64x192&split=train"""
    return _world(source, CLIPS, size)


def _world(source: Source, worlds: dict[str, str], size: tuple[int, int] | None) -> Any:
    if source.rest not in worlds:
        raise UserError(f"there is no built-in world {source.rest!r}", remedy=did_you_mean(source.rest, worlds))
    module, _, name = worlds[source.rest].partition(":")
    world = getattr(importlib.import_module(module), name)
    kinds = {name: kind for name, kind in typing.get_type_hints(world.__init__).items() if name != "return"}
    source.refuse_unknown(*kinds)
    arguments: dict[str, Any] = {
        option: read_value(text, kinds[option], f"{option} of {source.rest}") for option, text in source.options.items()
    }
    if size is not None:
        arguments["size"] = _size(size, kinds.get("size"), source.rest)
    return world(**arguments)


def _size(size: tuple[int, int], kind: Any, world: str) -> int | tuple[int, int]:
    if kind is not int:
        return size
    if size[0] != size[1]:
        raise UserError(f"size={size[0]}x{size[1]}", f"{world} is square", f"write size={size[0]}")
    return size[0]
