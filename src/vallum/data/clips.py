"""Video as training uses it: three frames in a row, with what is known of the camera."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from vallum.data.data import BrokenImageError
from vallum.data.request import read_on_error, read_size
from vallum.errors import UserError, did_you_mean
from vallum.specs import Registry, Source, read_value


@dataclass
class Clip:
    """A frame between the one before and the one after it.

    Pixels' centres lie at whole numbers, the camera looks along z with x to the right and y down, depth is along z.
    """

    frames: Tensor  # (3, C, H, W) float in [0, 1]: before, middle, after
    intrinsics: Tensor | None = None  # (3, 3) in pixels of these frames
    motion: Tensor | None = None  # (2, 4, 4): from the middle camera's coordinates to the one's before and after
    depth: Tensor | None = None  # (H, W) of the middle frame, in the unit of `motion`; the sky's is infinite
    moving: Tensor | None = None  # (H, W) what moves by itself in the middle frame


@dataclass
class ClipBatch:
    """Some clips. What only some of them know is NaN in the others; what none of them knows is None."""

    frames: Tensor  # (N, 3, C, H, W)
    intrinsics: Tensor  # (N, 3, 3)
    keys: Tensor  # (N,) int64, on the CPU
    names: list[str]
    motion: Tensor | None = None  # (N, 2, 4, 4)
    depth: Tensor | None = None  # (N, H, W)
    moving: Tensor | None = None  # (N, H, W)

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str) -> ClipBatch:
        moved = [None if t is None else t.to(device) for t in (self.motion, self.depth, self.moving)]
        return ClipBatch(self.frames.to(device), self.intrinsics.to(device), self.keys, self.names, *moved)


class Clips(ABC):
    """Unlabelled video: a fixed order of clips, read when asked for. A source implements `__len__` and `read`.

    With `on_error="skip"` a clip that cannot be read is left out of its batch and noted in `skipped`.
    """

    spec: str  # the string that loads it again
    on_error: Literal["stop", "skip"] = "stop"
    reach: int = 0  # clips of one run that lie at most so far apart show moments in common

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Clip: ...

    def name(self, index: int) -> str:
        return str(index)

    def runs(self) -> list[range]:
        """Which clips follow each other, in the order of all; by themselves each stands alone."""
        return [range(index, index + 1) for index in range(len(self))]

    @cached_property
    def skipped(self) -> dict[str, str]:
        """Why clips were left out, by name: grows as they are met."""
        return {}

    def batch(self, indices: Sequence[int]) -> ClipBatch:
        """The clips at `indices`; where broken ones are skipped, without them, and perhaps empty."""
        found = []
        for index in indices:
            try:
                found.append((index, self.read(index)))
            except BrokenImageError as error:
                if self.on_error == "stop":
                    raise
                self.skipped[self.name(index)] = str(error)
        return self.together(found)

    def together(self, found: Sequence[tuple[int, Clip]]) -> ClipBatch:
        """Clips that were read, with their places, as a batch."""
        indices, clips = [index for index, _ in found], [clip for _, clip in found]
        if not clips:
            return ClipBatch(torch.empty(0, 3, 3, 0, 0), torch.empty(0, 3, 3), torch.tensor([]).long(), [])
        names = [self.name(index) for index in indices]
        shapes = {tuple(clip.frames.shape): name for clip, name in zip(clips, names, strict=True)}
        if len(shapes) > 1:
            (one, first), (other, second), *_ = shapes.items()
            raise UserError(
                f"clips differ in shape: {first} is {one[1:]}, {second} is {other[1:]}",
                remedy="give one size, as ?size=64x192",
            )
        return ClipBatch(
            torch.stack([clip.frames for clip in clips]),
            _stacked([torch.full((3, 3), torch.nan) if c.intrinsics is None else c.intrinsics for c in clips]),
            torch.as_tensor(indices, dtype=torch.int64),
            names,
            *(_known([getattr(clip, name) for clip in clips]) for name in ("motion", "depth", "moving")),
        )


def _stacked(tensors: list[Tensor]) -> Tensor:
    return torch.stack([tensor.float() for tensor in tensors])


def _known(values: list[Tensor | None]) -> Tensor | None:
    known = next((value for value in values if value is not None), None)
    if known is None:
        return None
    if known.dtype == torch.bool:
        return torch.stack([torch.zeros_like(known) if value is None else value for value in values])
    return _stacked([torch.full_like(known, torch.nan) if value is None else value for value in values])


CLIP_SOURCES: Registry[Clips] = Registry("clip source")  # functions (source: Source, size) -> Clips


def load_clips(source: Any, *, size: int | str | Sequence[int] | None = None) -> Clips:
    """Unlabelled video from `source`: a string, or clips made in Python.

    Strings are "folder:PATH" (any folders of frames), "kitti:PATH" (KITTI raw), "cityscapes:PATH" (its sequences) and
    "builtin:streets"; options follow, as in "folder:drives?size=64x192&step=2". `size` stretches the frames, and the
    intrinsics with them; `step` is how many frames lie from one of a clip to the next. A frame that cannot be read
    raises BrokenImageError, or with `on_error=skip` its clips are left out of their batches and noted in `skipped`.

    >>> clips = load_clips("builtin:streets?n=10&size=32x96")
    >>> batch = clips.batch([3, 7])
    >>> tuple(batch.frames.shape), tuple(batch.motion.shape), tuple(batch.depth.shape)
    ((2, 3, 3, 32, 96), (2, 2, 4, 4), (2, 32, 96))
    """
    if isinstance(source, Clips):
        if size is not None:
            raise UserError(
                "size= comes too late for clips that are loaded already", remedy="say it where they are made"
            )
        return source
    found = Source.parse(str(source))
    if found.scheme not in CLIP_SOURCES:
        remedy = did_you_mean(found.scheme, CLIP_SOURCES) if found.scheme else f"write folder:{source}"
        raise UserError(f"{source!r} names no source of clips", f"one of {', '.join(CLIP_SOURCES)}", remedy)
    said = found.options.get("size")
    on_error = read_on_error(found.options.get("on_error", "stop"))
    clips = CLIP_SOURCES[found.scheme](found.but(size=None, on_error=None), read_size(said if size is None else size))
    clips.on_error = on_error
    chosen = found if size is None else found.but(size="x".join(map(str, read_size(size) or ())))
    clips.spec = str(chosen)
    return clips


def whole_number(source: Source, name: str, default: int) -> int:
    """The option `name`, which is at least 1."""
    value: int = read_value(source.options.get(name, str(default)), int, f"{name} of {source.scheme}")
    if value < 1:
        raise UserError(f"{name}={value}", "at least 1 is needed")
    return value
