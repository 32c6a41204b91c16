"""The images on which a perturbation is looked for: some to climb on, others to choose by."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vallum.data import Data
from vallum.data.data import BrokenImageError
from vallum.errors import UserError
from vallum.images import Batch, Draws

ROOM = 2e9  # bytes of images that are kept in memory; beyond it they are read each time
CHOOSING = 0.25  # share of the images that candidates are compared on


def marks(data: Data, indices: Sequence[int]) -> dict[int, int]:
    """What each image is known again by, where it can be read, in whatever place and data set it is found."""
    known: dict[int, int] = {}
    for index in indices:
        try:
            content = data.identity(index)
        except BrokenImageError:
            if data.on_error == "stop":
                raise
            continue
        known[index] = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)
    return known


class Pool:
    """A random part of the images at `indices`, the same for the same seed, in two that have none in common.

    Where images that cannot be read are skipped, neither part has one.
    """

    def __init__(self, data: Data, indices: Sequence[int], count: int, seed: int, device: torch.device) -> None:
        order = Draws(seed, [0], "universal/images").each("order")[0].permutation(np.asarray(indices, dtype=np.int64))
        self.data, self.device, self.seed = data, device, seed
        self.wanted = taken = order[:count].tolist()
        if data.on_error == "skip":  # so that there is something to climb on and something to choose by
            taken = self._readable()
        if len(taken) < 2:
            raise UserError(
                f"there are {len(taken)} images to fit a universal perturbation on",
                "it takes two at least, and is better for some hundreds",
                "give it data of their own: universal:data=folder:others",
            )
        choosing = max(1, round(CHOOSING * len(taken)))
        self.select, self.fit = taken[:choosing], taken[choosing:]

    @cached_property
    def _kept(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Image and label by index, if there is room for all."""
        first = next((one for i in self.wanted if len(one := self.data.batch([i]))), None)
        if first is None:
            return {}
        size = first.images.numel() * first.images.element_size() + first.labels.numel() * 8
        if size * len(self.wanted) > ROOM:
            return {}
        kept: dict[int, tuple[Tensor, Tensor]] = {}
        for start in range(0, len(self.wanted), 256):
            batch = self.data.batch(self.wanted[start : start + 256])
            kept.update(zip(batch.keys.tolist(), zip(batch.images, batch.labels, strict=True), strict=True))
        return kept

    @property
    def marks(self) -> frozenset[int]:
        """What the images are known again by that have had a say in what is found."""
        return frozenset(marks(self.data, self.fit + self.select).values())

    def _readable(self) -> list[int]:
        """Those of the images that can be read."""
        there = set(self._kept) or {i for i in self.wanted if len(self.data.batch([i]))}
        return [i for i in self.wanted if i in there]

    def batch(self, indices: Sequence[int]) -> Batch:
        """These images on the device; without those that cannot be read, where such are skipped."""
        if not self._kept:
            return self.data.batch(indices).to(self.device)
        there = [i for i in indices if i in self._kept]
        if not there:
            return self.data.batch([]).to(self.device)
        images, labels = zip(*(self._kept[i] for i in there), strict=True)
        names = [self.data.name(i) for i in there]
        return Batch(torch.stack(images), torch.stack(labels), torch.tensor(there), names).to(self.device)

    def selection(self, size: int) -> list[list[int]]:
        """The images to choose by, in batches."""
        return [self.select[start : start + size] for start in range(0, len(self.select), size)]

    def stream(self, draws: Draws, size: int, steps: int) -> list[list[int]]:
        """A fresh batch of the images to climb on for each step; all are seen before any is seen again."""
        generator = draws.each("batches")[0]
        size, order = min(size, len(self.fit)), np.empty(0, np.int64)
        batches = []
        for _ in range(steps):
            if len(order) < size:
                order = np.concatenate([order, generator.permutation(np.asarray(self.fit, dtype=np.int64))])
            batches.append(order[:size].tolist())
            order = order[size:]
        return batches
