"""The images that patches are made for: every class as often as any other, some kept apart to choose by."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from vallum.data import Data
from vallum.errors import UserError
from vallum.images import Draws, Task
from vallum.threats.universal.pool import Pool


class Pictures(Pool):
    """As many images of the data as asked for, drawn by the seed: `fit` to make patches on, `select` to choose by."""

    def __init__(self, data: Data, count: int, seed: int, device: torch.device) -> None:
        if data.task is not Task.CLASSIFY:
            raise UserError(f"the data are there to {data.task}", "a patch tells the class of an object")
        if len(data) < 2 * len(data.classes):
            raise UserError(
                f"{len(data)} images of {len(data.classes)} classes", "two of each at least, better some dozens"
            )
        super().__init__(data, range(len(data)), count, seed, device)
        missing = [name for name, own in zip(data.classes, self.by_class, strict=True) if not len(own)]
        if missing:
            raise UserError(
                f"no image of {missing[0]!r} among the {len(self.fit)} that patches are made on",
                "each class has a patch, which is made on its own images",
                "take more images, or leave out the class",
            )

    @cached_property
    def by_class(self) -> list[np.ndarray]:
        """Of the images to make patches on, those of each class."""
        labels = {i: int(label) for i, (_, label) in self._kept.items()}
        if not labels:  # too many to keep: read once for their labels
            for start in range(0, len(self.fit), 256):
                batch = self.data.batch(self.fit[start : start + 256])
                labels.update(zip(batch.keys.tolist(), batch.labels.tolist(), strict=True))
        known = [(index, labels[index]) for index in self.fit if index in labels]
        return [np.array([i for i, label in known if label == one], np.int64) for one in range(len(self.data.classes))]

    def stream(self, draws: Draws, size: int, steps: int) -> list[list[int]]:
        """A batch for each step: classes in turn, in a random order each time, and of each its images in turn."""
        generator = draws.each("balanced")[0]
        classes, waiting = np.empty(0, np.int64), [np.empty(0, np.int64) for _ in self.by_class]
        batches = []
        for _ in range(steps):
            while len(classes) < size:
                classes = np.concatenate([classes, generator.permutation(len(self.by_class))])
            batch = []
            for one in classes[:size].tolist():
                if not len(waiting[one]):
                    waiting[one] = generator.permutation(self.by_class[one])
                batch.append(int(waiting[one][0]))
                waiting[one] = waiting[one][1:]
            batches.append(batch)
            classes = classes[size:]
        return batches
