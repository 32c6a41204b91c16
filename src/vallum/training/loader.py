"""Images in the order of their epoch, decoded once, cut into each process's share, and ready when asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from vallum.data.data import Data
from vallum.errors import UserError
from vallum.images import IGNORE, Batch, Draws, Task
from vallum.training.augment import augment
from vallum.training.settings import Settings


class Cache:
    """Decoded images, in memory as long as they fit in `limit` bytes: as bytes where that loses nothing.

    Pictures from files are whole numbers of 0..255 and take a quarter of the room that computed ones take.
    """

    def __init__(self, data: Data, limit: float) -> None:
        self.data, self.limit = data, limit
        self.images: Tensor | None = None  # (len(data), C, H, W), uint8 or as the data gave them
        self.labels = torch.empty(0)
        self.held = np.zeros(len(data), bool)
        self.broken = np.zeros(len(data), bool)  # left out by data that skip what cannot be read
        self.full = False  # it was found not to fit
        self.lock = Lock()

    def batch(self, indices: list[int]) -> Batch:
        sound = [index for index in indices if not self.broken[index]]
        missing = [index for index in sound if not self.held[index]]
        if not missing:
            return self._held(sound)
        fresh = self.data.batch(missing)
        read = set(fresh.keys.tolist())
        self.broken[[index for index in missing if index not in read]] = True
        if read:
            _check_labels(fresh, self.data)
            self._keep(fresh)
        if len(missing) == len(sound):
            return fresh
        sound = [index for index in sound if not self.broken[index]]
        return self._held(sound) if all(self.held[sound]) else self.data.batch(sound)

    def _held(self, indices: list[int]) -> Batch:
        if self.images is None:  # no indices, as nothing is held
            return self.data.batch(indices)
        images = self.images[indices]
        if images.dtype == torch.uint8:
            images = images.float() / 255
        names = [self.data.name(index) for index in indices]
        return Batch(images, self.labels[indices].long(), torch.tensor(indices, dtype=torch.int64), names)

    def _keep(self, batch: Batch) -> None:
        as_bytes = _exact_bytes(batch.images)
        labels = batch.labels.to(torch.uint8 if len(self.data.classes) <= IGNORE else torch.int64)
        with self.lock:
            if self.images is None and not self.full:
                self._make_room(batch.images[0] if as_bytes is None else as_bytes[0], labels[0])
            if self.images is None:
                return
            images = as_bytes if self.images.dtype == torch.uint8 else batch.images
            if images is None or images.shape[1:] != self.images.shape[1:]:
                return  # an odd one out is read each time
            self.images[batch.keys], self.labels[batch.keys] = images, labels
            self.held[batch.keys.numpy()] = True

    def _make_room(self, image: Tensor, label: Tensor) -> None:
        size = image.numel() * image.element_size() + label.numel() * label.element_size()
        self.full = size * len(self.data) > self.limit
        if not self.full:
            self.images = image.new_empty(len(self.data), *image.shape)
            self.labels = label.new_empty(len(self.data), *label.shape)


def _exact_bytes(images: Tensor) -> Tensor | None:
    """The images as uint8, if they come back from that as they were."""
    if images.dtype != torch.float32:
        return None
    rounded = (images * 255).round().clamp(0, 255).to(torch.uint8)
    return rounded if torch.equal(rounded.float() / 255, images) else None


def _check_labels(batch: Batch, data: Data) -> None:
    labels = batch.labels if data.task is Task.CLASSIFY else batch.labels[batch.labels != IGNORE]
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(data.classes):
        outside = int(labels.max()) if int(labels.min()) >= 0 else int(labels.min())
        raise UserError(
            f"a label is {outside}",
            f"{data.spec or 'the data set'} names {len(data.classes)} classes, 0 to {len(data.classes) - 1}",
            "mend the labels or name all classes",
        )


@dataclass
class Portion:
    """One process's part of the images of one weight step."""

    batches: list[Batch]  # one per accumulation part
    offset: int  # where in the step's images they begin
    total: int  # how many images the step has, over all processes


@dataclass
class Loader:
    """The training images, an epoch at a time."""

    cache: Cache
    indices: np.ndarray  # the images that are trained on
    settings: Settings
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        self.batch_size = min(self.settings.batch_size, len(self.indices))
        if self.batch_size < self.world * self.settings.accumulate:
            raise UserError(
                f"{self.batch_size} images per step cannot be shared by {self.world} processes "
                f"in {self.settings.accumulate} parts each",
                remedy="raise the batch size, or lower the number of devices or of parts",
            )

    @property
    def steps(self) -> int:
        """Weight steps per epoch; the images that fill no whole batch wait for another epoch."""
        return len(self.indices) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Generator[Portion]:
        """The portions of one epoch from its step `start` on, prepared by threads while the model works."""
        order = Draws(self.settings.seed, [epoch], "order").each("epoch")[0].permutation(self.indices)
        with ThreadPoolExecutor(self.settings.workers, "vallum-loader") as pool:
            waiting: deque[Future[Portion]] = deque()
            steps = iter(range(start, self.steps))
            try:
                for step in islice(steps, self.settings.workers + 1):
                    waiting.append(pool.submit(self._portion, order, epoch, step))
                while waiting:
                    portion = waiting.popleft().result()
                    for step in islice(steps, 1):
                        waiting.append(pool.submit(self._portion, order, epoch, step))
                    yield portion
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _portion(self, order: np.ndarray, epoch: int, step: int) -> Portion:
        # Processes and parts cut one list of images, so that the step's images are the same however many there are.
        whole = order[step * self.batch_size : (step + 1) * self.batch_size]
        parts = np.array_split(whole, self.world * self.settings.accumulate)
        first = self.rank * self.settings.accumulate
        mine = parts[first : first + self.settings.accumulate]
        batches = [augment(self.cache.batch(part.tolist()), self.settings, epoch) for part in mine]
        return Portion(batches, sum(map(len, parts[:first])), len(whole))


def held_out(data: Data, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The images to train on and those to validate on, a random `share` of them that the seed alone decides."""
    if not 0 <= share < 1:
        raise UserError(f"validation={share:g}", "a share below 1 is needed, or data", "write validation=0.1")
    order = Draws(seed, [0], "held out").each("order")[0].permutation(len(data))
    count = round(share * len(data))
    if count == len(data):
        raise UserError(f"validation={share:g} of {len(data)} images leaves none to train on", remedy="lower it")
    return np.sort(order[count:]), np.sort(order[:count])
