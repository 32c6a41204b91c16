"""What a frozen network thinks of an image on the way: a feature of the whole and a map of features, for heads to read.

Found by hooks on whatever the network is made of, so any classifier or segmenter will do. Nothing of it is trained
here, and no hook stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.errors import UserError, did_you_mean
from vallum.images import Task
from vallum.models.model import Model

LEAST = 8  # cells on a side that a map should have, where the network has any such


@dataclass(frozen=True)
class Features:
    """Of images (N, C, H, W)."""

    pooled: Tensor  # (N, D): what the last layer decides from, averaged over places
    map: Tensor | None  # (N, M, h, w): what the network has found where
    logits: Tensor  # (N, K, ...)

    def rows(self, start: int, stop: int) -> Features:
        return Features(
            self.pooled[start:stop], None if self.map is None else self.map[start:stop], self.logits[start:stop]
        )

    @property
    def summary(self) -> Tensor:
        """(N, D + 4 M): the pooled feature, and what is in each quarter of the image."""
        if self.map is None:
            return self.pooled
        return torch.cat([self.pooled, F.adaptive_avg_pool2d(self.map, 2).flatten(1)], 1)


@dataclass(frozen=True)
class Layout:
    """What heads must fit."""

    image: tuple[int, int, int]  # channels, height, width
    pooled: int
    map: tuple[int, int, int] | None  # channels, height, width

    @property
    def summary(self) -> int:
        return self.pooled + (4 * self.map[0] if self.map else 0)

    def map_for(self, task: str) -> tuple[int, int, int]:
        """The shape of the map, or an error that says which task has use for one."""
        if self.map is None:
            raise UserError(
                f"{task} reads a map of features, and this model gives none",
                "a network with convolutions or tokens, as one of timm's",
                f"leave {task} out, or name the layer: map=LAYER",
            )
        return self.map


class _Enough(Exception):  # noqa: N818  no error: it ends a pass where its rest is of no use
    pass


class Backbone:
    """Reads a model's features where it was told to, or where it found them itself.

    The pooled feature is what enters the last linear layer or convolution. The map of a classifier is the last that
    has at least 8 cells on a side and an eighth of the image's pixels; where the network stays at that size to its
    end, one from its middle. That of a segmenter is what its last convolution sees.

    >>> from vallum.models import load_model
    >>> Backbone(load_model("builtin:signs_resnet")).layout(torch.rand(1, 3, 32, 32))
    Layout(image=(3, 32, 32), pooled=192, map=(48, 8, 8))
    """

    def __init__(self, model: Model, pooled: str = "", map: str = "") -> None:
        self.model, self.named = model, (pooled, map)
        self._places: tuple[str, str] | None = None  # names, which outlive copies of the model and changes to them
        modules = dict(model.named_modules())
        for layer in filter(None, self.named):
            if not any(_is(layer, name) for name in modules):
                raise UserError(f"the model has no layer {layer!r}", remedy=did_you_mean(layer, filter(None, modules)))

    def __call__(self, images: Tensor, map_alone: bool = False) -> Features:
        """With `map_alone` the pass ends where the map is made, and nothing else is there to read."""
        if self._places is None:
            self._places = self._look(images)
        decides, maps = self._places
        kept: dict[str, Tensor] = {}
        after = bool(self.named[0])  # a layer that was named counts by its output, one that was found by its input

        def keep_pooled(_: nn.Module, given: Any, made: Any) -> None:
            kept["pooled"] = wide(_tensor(made if after else given))

        def keep_map(_: nn.Module, given: Any, made: Any) -> None:
            kept["map"] = wide(_tensor(made))
            if map_alone:
                raise _Enough

        hooks = [self.model.get_submodule(decides).register_forward_hook(keep_pooled)]
        if maps:
            hooks.append(self.model.get_submodule(maps).register_forward_hook(keep_map))
        try:
            logits = self.model(images)
        except _Enough:
            return Features(images.new_zeros(len(images), 0), as_map(kept["map"], images), images.new_zeros(0))
        finally:
            for hook in hooks:
                hook.remove()
        before = kept["pooled"] if len(kept["pooled"]) == len(images) else kept["pooled"].reshape(len(images), -1)
        spread = as_map(before, images)
        pooled = before.flatten(1) if spread is None else spread.mean((2, 3))
        if maps:
            return Features(pooled, as_map(kept["map"], images), logits)
        return Features(pooled, spread if self.model.task is Task.SEGMENT else None, logits)

    def layout(self, images: Tensor) -> Layout:
        with torch.no_grad():
            found = self(images[:1])
        shape = None if found.map is None else found.map.shape
        channels, height, width = images.shape[1:]
        map = None if shape is None else (shape[1], shape[2], shape[3])
        return Layout((channels, height, width), found.pooled.shape[1], map)

    def _look(self, images: Tensor) -> tuple[str, str]:
        """The names of the layers to read, found by watching one image go through; no map: an empty name."""
        seen: list[tuple[str, nn.Module, Any]] = []

        def note(name: str) -> Callable[..., None]:
            return lambda module, given, made: seen.append((name, module, made))

        modules = dict(self.model.named_modules())
        hooks = [module.register_forward_hook(note(name)) for name, module in modules.items() if name]
        try:
            with torch.no_grad():
                self.model(images[:1].detach())
        finally:
            for hook in hooks:
                hook.remove()
        named_pooled, named_map = (next((n for n in modules if one and _is(one, n)), "") for one in self.named)
        deciding = [place for place, (_, m, _) in enumerate(seen) if isinstance(m, nn.Linear | nn.Conv2d)]
        if not (named_pooled or deciding):
            raise UserError(
                f"this {type(self.model).__name__} shows no linear layer and no convolution",
                "a network made of torch modules, whose features heads can read",
                "name the layer whose output they are: pooled=LAYER",
            )
        decides = named_pooled or seen[deciding[-1]][0]
        if named_map or self.model.task is Task.SEGMENT:  # there what enters the last convolution is a map itself
            return decides, named_map
        before = seen[: deciding[-1]] if deciding else seen[:-1]
        return decides, _middle([(n, m, as_map(_tensor(made), images[:1])) for n, m, made in before], images)


def _middle(seen: list[tuple[str, nn.Module, Tensor | None]], images: Tensor) -> str:
    """Of the layers in the order of their work the one whose map is neither too coarse nor too near to the pixels."""
    maps = [(name, m, min(made.shape[2:])) for name, m, made in seen if made is not None and min(made.shape[2:]) > 1]
    maps = [one for one in maps if next(one[1].children(), None) is not None] or maps  # blocks before single layers
    if not maps:
        return ""
    least = min(max(LEAST, min(images.shape[2:]) // 8), max(side for _, _, side in maps))
    fitting = [name for name, _, side in maps if side >= least]
    if fitting[-1] == maps[-1][0]:  # the network stays at that size to its end
        fitting = [name for name, _, side in maps if side == maps[-1][2]]
        fitting = fitting[: len(fitting) // 2 + 1]
    return fitting[-1]


def as_map(features: Tensor, images: Tensor) -> Tensor | None:
    """What a layer made as (N, C, h, w), from maps with channels first or last and from tokens; None if it is none."""
    height, width = images.shape[2:]
    if len(features) != len(images):
        return None
    if features.ndim == 4:
        for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
            h, w = (features.shape[axis] for axis in order[2:])
            if abs(h * width - w * height) < max(height, width) and h <= height + 2:
                return features.permute(order)
        return None
    if features.ndim != 3:
        return None
    for prefix in range(6):  # class tokens and registers
        tokens = features.shape[1] - prefix
        h = round(math.sqrt(max(tokens, 0) * height / width))
        if h > 1 and tokens % h == 0 and abs(h * width - tokens // h * height) < max(height, width):
            return features[:, prefix:].transpose(1, 2).unflatten(2, (h, tokens // h))
    return None


def wide(features: Tensor) -> Tensor:
    """In float32 at least: heads are, whatever the network is."""
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def _is(layer: str, name: str) -> bool:
    return name == layer or name.endswith(f".{layer}")


def _tensor(output: Any) -> Tensor:
    """The first tensor in whatever a layer takes or gives."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output
