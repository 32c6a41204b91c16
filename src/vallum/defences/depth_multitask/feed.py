"""Clips for each step, read ahead and kept."""

from __future__ import annotations

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from vallum.data import BrokenImageError, Clip, ClipBatch, Clips
from vallum.data.decoding import in_channels
from vallum.defences.depth_multitask.holding import LEAST, moves, parted
from vallum.errors import UserError
from vallum.images import Draws


class Feed:
    """Clips of a source with as many channels as the model takes; some are held out, the next step's read meanwhile."""

    def __init__(self, clips: Clips, limit: float, channels: int = 3) -> None:
        self.source, self.channels = _Kept(clips, limit), channels
        self.train, self.held_out = parted(clips.runs(), clips.reach)
        if not self.train:
            raise UserError(
                f"{clips.spec or 'the video'} has too few clips, {len(clips)}",
                "besides those that depth is judged on, and those that show the same moments, none is left to train on",
                "take longer drives, or more of them",
            )
        self.pool = ThreadPoolExecutor(1, "vallum-clips")
        self.ahead: tuple[tuple[int, ...], Future[ClipBatch]] | None = None

    def of_step(self, seed: int, step: int, offset: int, count: int) -> ClipBatch:
        """As many clips as asked for, drawn for this step and this part of it."""
        wanted = self._drawn(seed, step, offset, count)
        ready = self.ahead is not None and self.ahead[0] == wanted
        batch = self.ahead[1].result() if self.ahead is not None and ready else self._read(wanted)
        following = self._drawn(seed, step + 1, offset, count)
        self.ahead = following, self.pool.submit(self._read, following)
        return batch

    def judged(self, size: int) -> list[ClipBatch]:
        """The clips held out, in batches; without those that cannot be read, where they may be skipped."""
        starts = range(0, len(self.held_out), size)
        batches = (self.source.batch(self.held_out[start : start + size]) for start in starts)
        return [self._fitting(batch) for batch in batches if len(batch)]

    def refuse_stillness(self) -> None:
        """Raise unless depth can be judged: where nobody knows it, the camera must move in the clips held out."""
        batches = self.judged(8)
        if batches and batches[0].depth is not None:
            return
        moving = sum(int(moves(batch.frames).sum()) for batch in batches)
        least = min(LEAST, -(-len(self.held_out) // 2))
        if moving < least:
            raise UserError(
                f"in {moving} of the {len(self.held_out)} clips held out of {self.source.spec or 'the video'} the "
                "camera moves",
                f"depth shows where it does, and is judged on {least} such clips at least",
                "raise step=, so that more happens from frame to frame, or take drives that stop less",
            )

    def _drawn(self, seed: int, step: int, offset: int, count: int) -> tuple[int, ...]:
        """Places among the clips to train on."""
        drawn = Draws(seed, [offset], f"step {step}").integers(len(self.train), count, purpose="clips")
        return tuple(drawn[0].tolist())

    def _read(self, places: tuple[int, ...]) -> ClipBatch:
        return self._fitting(self.source.together([self._sound(place) for place in places]))

    def _sound(self, place: int) -> tuple[int, Clip]:
        """The clip at a place, or the next one that can be read, where broken ones may be skipped."""
        for further in range(len(self.train)):
            index = self.train[(place + further) % len(self.train)]
            try:
                return index, self.source.read(index)
            except BrokenImageError:
                if self.source.on_error == "stop":
                    raise
        raise UserError(f"no clip of {self.source.spec} can be read", remedy="leave out on_error=skip to see why")

    def _fitting(self, batch: ClipBatch) -> ClipBatch:
        batch.frames = in_channels(batch.frames, self.channels)
        if batch.frames.shape[2] != self.channels:
            raise UserError(
                f"the clips have {batch.frames.shape[2]} channels",
                f"the model takes {self.channels}",
                "bring them to it",
            )
        return batch


class _Kept(Clips):
    """Clips as bytes in memory, as long as they fit: those of a world, and of files, are whole numbers of 0..255."""

    def __init__(self, clips: Clips, limit: float) -> None:
        self.clips, self.limit, self.spec, self.on_error = clips, limit, clips.spec, clips.on_error
        self.known: dict[int, tuple[Clip, Tensor]] = {}
        self.broken: dict[int, BrokenImageError] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        return self.clips.name(index)

    def read(self, index: int) -> Clip:
        if index in self.known:
            clip, frames = self.known[index]
            return replace(clip, frames=frames.float().div_(255))
        if index in self.broken:
            raise self.broken[index]
        try:
            clip = self.clips.read(index)
        except BrokenImageError as error:
            if self.on_error == "skip":
                self._note(index, error)
            raise
        whole = (clip.frames * 255).round().to(torch.uint8)
        size = whole.numel() + (0 if clip.depth is None else clip.depth.numel() * 4)
        if size * (len(self.known) + 1) < self.limit and torch.equal(whole.float() / 255, clip.frames):
            self.known[index] = replace(clip, frames=whole[:0]), whole
        return clip

    def _note(self, index: int, error: BrokenImageError) -> None:
        if not self.broken:
            warnings.warn(
                f"clip {self.name(index)} is left out, another one takes its place, and further ones are only counted: "
                f"{error}",
                stacklevel=2,
            )
        self.broken[index] = error
