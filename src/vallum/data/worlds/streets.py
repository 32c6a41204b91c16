"""The world of streets: drives through cities that are made from a seed, seen through the windscreen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vallum.data.clips import Clip, Clips
from vallum.data.data import Data
from vallum.data.worlds.street_drive import Drive
from vallum.data.worlds.street_picture import Picture
from vallum.data.worlds.street_solids import CLASSES
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task

WORLD_VERSION = 1  # raised whenever any image changes: results of different worlds are not to be mixed
SIZE = (64, 192)
FOCAL = 0.6  # of the width: a field of view of 80 degrees
Split = Literal["train", "val", "test"]


class World:
    """What images and clips of streets have in common: drive i depends on seed, split, purpose and i alone."""

    purpose: str

    def __init__(self, n: int, size: tuple[int, int], split: Split, seed: int, focal: float, **said: int) -> None:
        if n < 1:
            raise UserError(f"n={n}", "a world has at least one image", "write n=2000")
        if min(size) < 16:
            raise UserError(f"size={size[0]}x{size[1]}", "a street needs 16 pixels", "write size=64x192")
        if split not in get_args(Split):
            raise UserError(f"split={split!r}", f"one of {', '.join(get_args(Split))}")
        if not 0.2 <= focal <= 5:
            raise UserError(
                f"focal={focal:g}", "the focal length in widths of the picture, 0.2 to 5", "write focal=0.6"
            )
        self.n, self.size, self.split, self.seed, self.focal = n, (size[0], size[1]), split, seed, focal
        options = {"n": n, "size": f"{size[0]}x{size[1]}", "split": split, "seed": seed, "focal": f"{focal:g}", **said}
        self.spec = "builtin:streets?" + "&".join(f"{name}={value}" for name, value in options.items())

    def __len__(self) -> int:
        return self.n

    def drive(self, index: int, frames: int = 1) -> Drive:
        """A drive of that many frames; of another length it is another drive."""
        if not 0 <= index < self.n:
            raise UserError(f"there is no drive {index}", f"{self.spec} has 0 to {self.n - 1}")
        (stream,) = Draws(self.seed, [index]).each(f"streets/{self.split}/{self.purpose}")
        return Drive(stream, frames, self.size, self.focal)


class Streets(World, Data):
    """Street scenes with the class of every pixel; each image is from a drive of its own.

    >>> streets = Streets(n=10, size=(32, 96))
    >>> batch = streets.batch([3, 7])
    >>> tuple(batch.images.shape), tuple(batch.labels.shape), streets.classes[:3]
    ((2, 3, 32, 96), (2, 32, 96), ('road', 'pavement', 'building'))
    """

    task = Task.SEGMENT
    classes = CLASSES
    purpose = "images"

    def __init__(
        self, n: int = 2000, size: tuple[int, int] = SIZE, split: Split = "test", seed: int = 0, focal: float = FOCAL
    ) -> None:
        super().__init__(n, size, split, seed, focal)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        picture = self.picture(index)
        return _image(picture), torch.from_numpy(picture.labels)

    def picture(self, index: int) -> Picture:
        """The image with all that is known of it: depth, what moves."""
        return self.drive(index).frame(0)

    def identity(self, index: int) -> bytes:
        height, width = self.size
        return f"streets/{WORLD_VERSION}/{self.seed}/{self.split}/{height}x{width}/{self.focal:g}/{index}".encode()

    def batch(self, indices: Sequence[int]) -> Batch:
        if not len(indices):
            empty = torch.empty(0, 3, *self.size), torch.empty(0, *self.size, dtype=torch.int64)
            return Batch(*empty, torch.empty(0, dtype=torch.int64), [])
        return super().batch([int(index) for index in indices])


class StreetClips(World, Clips):
    """Three frames of a drive, 0.1 s apart, with exact depth and motion; other drives than the images'."""

    purpose = "clips"

    def __init__(
        self,
        n: int = 2000,
        size: tuple[int, int] = SIZE,
        split: Split = "train",
        seed: int = 0,
        focal: float = FOCAL,
        step: int = 1,
    ) -> None:
        if step < 1:
            raise UserError(f"step={step}", "at least 1 frame from one of a clip to the next")
        super().__init__(n, size, split, seed, focal, step=step)
        self.step = step

    def read(self, index: int) -> Clip:
        drive = self.drive(index, 2 * self.step + 1)
        places = (0, self.step, 2 * self.step)
        pictures = drive.frames(places)
        before, middle, after = (drive.pose(number) for number in places)
        motion = np.stack([np.linalg.inv(other) @ middle for other in (before, after)])
        return Clip(
            torch.stack([_image(picture) for picture in pictures]),
            torch.from_numpy(drive.intrinsics).float(),
            torch.from_numpy(motion).float(),
            torch.from_numpy(pictures[1].depth),
            torch.from_numpy(pictures[1].moving),
        )


def _image(picture: Picture) -> Tensor:
    return torch.from_numpy(picture.image).permute(2, 0, 1).float() / 255
