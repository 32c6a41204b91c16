"""Images that are read once, where many arms of an experiment ask for the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vallum.data.data import Data
from vallum.images import Batch


class Kept(Data):
    """As `data`, whose images stay in memory once they were read."""

    def __init__(self, data: Data) -> None:
        self.inner = data
        self.task, self.classes, self.spec, self.on_error = data.task, data.classes, data.spec, data.on_error
        self.held: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inner.read(index)

    def batch(self, indices: Sequence[int]) -> Batch:
        missing = [index for index in dict.fromkeys(indices) if index not in self.held]
        if missing:
            read = self.inner.batch(missing)
            self.skipped.update(self.inner.skipped)
            for row, key in enumerate(read.keys.tolist()):
                one = slice(row, row + 1)
                self.held[key] = Batch(read.images[one], read.labels[one], read.keys[one], read.names[one])
        there = [self.held[index] for index in indices if index in self.held]
        if not there:
            return self.inner.batch([])
        images, labels, keys = (
            torch.cat([getattr(one, part) for one in there]) for part in ("images", "labels", "keys")
        )
        return Batch(images, labels, keys, [name for one in there for name in one.names])

    def identity(self, index: int) -> bytes:
        return self.inner.identity(index)

    def name(self, index: int) -> str:
        return self.inner.name(index)
