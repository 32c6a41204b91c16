"""The one shape that images have for everything above, wherever they come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Batch, Task


class BrokenImageError(UserError):
    """One image cannot be read: named by file, so that the rest can go on if the user asked for that."""


class Data(ABC):
    """A data set: a fixed order of images, read when asked for and never all at once.

    An image's key is its place in that order, so it is the same image in every run, whatever was selected before it.
    A source implements `__len__`, `read` and `identity`; worlds that make many images at once override `batch`.
    """

    spec: str  # the string that loads it again
    task: Task
    classes: tuple[str, ...]
    differ_in_size: ClassVar[str] = "give one size: --size 224, or load_data(..., size=224)"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> tuple[Tensor, Tensor]:
        """Image (C, H, W) float in [0, 1], label (scalar or (H, W)) int64; raises BrokenImageError naming the file."""

    @abstractmethod
    def identity(self, index: int) -> bytes:
        """Bytes that change whenever the content of this image or its label changes."""

    def name(self, index: int) -> str:
        """What a person calls this image: its file, or its number."""
        return str(index)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The images at `indices`, in that order."""
        pairs = [self.read(index) for index in indices]
        names = [self.name(index) for index in indices]
        sizes = {tuple(image.shape): name for (image, _), name in zip(pairs, names, strict=True)}
        if len(sizes) > 1:
            (one, first), (other, second), *_ = sizes.items()
            raise UserError(
                f"images differ in shape: {first} is {one}, {second} is {other}", remedy=self.differ_in_size
            )
        images = torch.stack([image for image, _ in pairs])  # (N, C, H, W)
        labels = torch.stack([label for _, label in pairs])  # (N,) or (N, H, W)
        return Batch(images, labels, torch.as_tensor(list(indices), dtype=torch.int64), names)

    def fingerprint(self, indices: Sequence[int]) -> str:
        """A short hash of what these images and labels are."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update("\0".join((self.task, *self.classes)).encode())
        for index in indices:
            digest.update(index.to_bytes(8, "little") + self.identity(index))
        return digest.hexdigest()
