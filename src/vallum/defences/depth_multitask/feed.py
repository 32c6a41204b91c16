"""Clips for each step, read ahead and kept."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from vallum.data import Clip, ClipBatch, Clips
from vallum.images import Draws

HELD_OUT = 32  # clips at most on which depth is judged, and a tenth of them


class Feed:
    """Clips of a source, of which the last ones are held out; those of the next step are read meanwhile."""

    def __init__(self, clips: Clips, limit: float) -> None:
        self.source = _Kept(clips, limit)
        held = min(HELD_OUT, max(1, len(clips) // 10)) if len(clips) > 1 else 0
        self.train = len(clips) - held
        self.held_out = list(range(self.train, len(clips))) or [0]
        self.pool = ThreadPoolExecutor(1, "vallum-clips")
        self.ahead: tuple[tuple[int, ...], Future[ClipBatch]] | None = None

    def of_step(self, seed: int, step: int, offset: int, count: int) -> ClipBatch:
        """As many clips as asked for, drawn for this step and this part of it."""
        wanted = self._drawn(seed, step, offset, count)
        if self.ahead is not None and self.ahead[0] == wanted:
            batch = self.ahead[1].result()
        else:
            batch = self.source.batch(wanted)
        following = self._drawn(seed, step + 1, offset, count)
        self.ahead = following, self.pool.submit(self.source.batch, following)
        return batch

    def judged(self, size: int) -> list[ClipBatch]:
        """The clips held out, in batches."""
        starts = range(0, len(self.held_out), size)
        return [self.source.batch(self.held_out[start : start + size]) for start in starts]

    def _drawn(self, seed: int, step: int, offset: int, count: int) -> tuple[int, ...]:
        drawn = Draws(seed, [offset], f"step {step}").integers(self.train, count, purpose="clips")
        return tuple(drawn[0].tolist())


class _Kept(Clips):
    """Clips as bytes in memory, as long as they fit: those of a world, and of files, are whole numbers of 0..255."""

    def __init__(self, clips: Clips, limit: float) -> None:
        self.clips, self.limit, self.spec = clips, limit, clips.spec
        self.known: dict[int, tuple[Clip, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        return self.clips.name(index)

    def read(self, index: int) -> Clip:
        if index in self.known:
            clip, frames = self.known[index]
            return replace(clip, frames=frames.float().div_(255))
        clip = self.clips.read(index)
        whole = (clip.frames * 255).round().to(torch.uint8)
        size = whole.numel() + (0 if clip.depth is None else clip.depth.numel() * 4)
        if size * (len(self.known) + 1) < self.limit and torch.equal(whole.float() / 255, clip.frames):
            self.known[index] = replace(clip, frames=whole[:0]), whole
        return clip

    def batch(self, indices: Sequence[int]) -> ClipBatch:
        return super().batch(indices)
