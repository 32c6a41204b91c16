"""The world of traffic signs: 43 classes after the European ones, made from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vallum.data.data import Data
from vallum.data.worlds.dice import Dice, smooth_noise
from vallum.data.worlds.sign_camera import blur, expose, light
from vallum.data.worlds.sign_classes import CLASSES
from vallum.data.worlds.sign_scene import background, hide, look, sign
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task

WORLD_VERSION = 1  # raised whenever any image changes: results of different worlds are not to be mixed
COLUMNS = 144  # uniform numbers for what an image shows
OCTAVES = (5, 9, 17)  # corners of the noise in each direction, coarse to fine
PIXELS_AT_ONCE = 64 * 32 * 32  # what the processor's cache holds
Split = Literal["train", "val", "test"]


class Signs(Data):
    """Traffic signs under all weathers; most are easy, a tail is hard.

    Image i depends on the seed, the split, the size and i alone; at another size it shows the same scene.

    >>> signs = Signs(n=100, split="train")
    >>> batch = signs.batch([5, 42])
    >>> tuple(batch.images.shape), signs.classes[batch.labels[0]]
    ((2, 3, 32, 32), 'turn left')
    """

    task = Task.CLASSIFY
    classes = CLASSES

    def __init__(self, n: int = 10_000, size: int = 32, split: Split = "test", seed: int = 0) -> None:
        if n < 1:
            raise UserError(f"n={n}", "a world has at least one image", "write n=10000")
        if size < 16:
            raise UserError(f"size={size}", "a sign is not legible below 16 pixels", "write size=32 or size=64")
        if split not in get_args(Split):
            raise UserError(f"split={split!r}", f"one of {', '.join(get_args(Split))}")
        self.n, self.size, self.split, self.seed = n, size, split, seed
        said = {"n": (n, 10_000), "size": (size, 32), "split": (split, "test"), "seed": (seed, 0)}
        options = "&".join(f"{name}={value}" for name, (value, default) in said.items() if value != default)
        self.spec = "builtin:signs" + (f"?{options}" if options else "")

    def __len__(self) -> int:
        return self.n

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        batch = self.batch([index])
        return batch.images[0], batch.labels[0]

    def identity(self, index: int) -> bytes:
        self._check([index])
        return f"signs/{WORLD_VERSION}/{self.seed}/{self.split}/{self.size}/{index}".encode()

    def batch(self, indices: Sequence[int]) -> Batch:
        indices = [int(index) for index in indices]
        self._check(indices)
        labels = self._labels(indices)
        images = torch.empty(len(indices), 3, self.size, self.size)
        step = max(1, PIXELS_AT_ONCE // self.size**2)
        for start in range(0, len(indices), step):
            part = slice(start, start + step)
            images[part] = self._render(indices[part], labels[part])
        return Batch(images, labels, torch.tensor(indices, dtype=torch.int64), [self.name(i) for i in indices])

    def _check(self, indices: Sequence[int]) -> None:
        for index in indices:
            if not 0 <= index < self.n:
                raise UserError(f"there is no image {index}", f"{self.spec} has images 0 to {self.n - 1}")

    def _labels(self, indices: Sequence[int]) -> Tensor:
        """Every run of 43 images, from the first on, shows every class once, in an order of its own."""
        runs = sorted({index // len(CLASSES) for index in indices})
        drawn = Draws(self.seed, runs).uniform(len(CLASSES), purpose=f"signs/{self.split}/labels")
        orders = dict(zip(runs, np.argsort(drawn.numpy(), axis=1, kind="stable"), strict=True))
        return torch.tensor([int(orders[i // len(CLASSES)][i % len(CLASSES)]) for i in indices], dtype=torch.int64)

    def _render(self, indices: Sequence[int], labels: Tensor) -> Tensor:
        corners = [3 * cells * cells for cells in OCTAVES]
        pixels = 3 * self.size * self.size
        scene = np.empty((len(indices), COLUMNS + sum(corners)), np.float32)
        grain = np.empty((len(indices), 2, pixels), np.float32)
        for row, stream in enumerate(Draws(self.seed, indices).each(f"signs/{self.split}")):
            stream.random(dtype=np.float32, out=scene[row])
            stream.random(dtype=np.float32, out=grain[row])
        numbers, *octaves = torch.from_numpy(scene).split([COLUMNS, *corners], dim=1)
        fields = [field.reshape(-1, 3, cells, cells) for field, cells in zip(octaves, OCTAVES, strict=True)]
        noise = smooth_noise(fields, (0.5, 0.3, 0.2), self.size)  # (N, 3, S, S)

        dice = Dice(numbers)
        hardness = dice.roll()
        hardness = hardness * hardness * hardness
        view = look(dice, hardness, self.size)
        picture = background(dice, view, noise)
        painted, cover = sign(dice, view, noise, labels, hardness)
        picture = picture + (painted - picture) * cover
        picture = hide(dice, view, noise, picture, hardness)
        picture = light(dice, view, picture.clamp(0, 1), hardness)
        picture = blur(dice, picture, hardness)
        one, other = torch.from_numpy(grain).view(-1, 2, 3, self.size, self.size).unbind(1)
        return expose(dice, picture, one + other - 1, hardness)
