"""The one shape that images have for everything above, wherever they come from."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Literal

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

    With `on_error="skip"` a broken image is left out of its batch and noted in `skipped`. Worker processes note it in
    copies of their own: what is missing from a batch shows in its keys.
    """

    spec: str  # the string that loads it again
    task: Task
    classes: tuple[str, ...]
    on_error: Literal["stop", "skip"] = "stop"
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

    @cached_property
    def skipped(self) -> dict[str, str]:
        """Why images were left out, by name: grows as they are met."""
        return {}

    def batch(self, indices: Sequence[int]) -> Batch:
        """The images at `indices`, in that order; where broken ones are skipped, without them, and perhaps empty."""
        kept: list[int] = []
        pairs: list[tuple[Tensor, Tensor]] = []
        for index in indices:
            try:
                pairs.append(self.read(index))
                kept.append(index)
            except BrokenImageError as error:
                if self.on_error == "stop":
                    raise
                self.skipped[self.name(index)] = str(error)
        names = [self.name(index) for index in kept]
        if not kept:
            nothing = (0,) if self.task is Task.CLASSIFY else (0, 0, 0)
            return Batch(torch.empty(0, 3, 0, 0), torch.empty(nothing, dtype=torch.int64), torch.tensor([]).long(), [])
        sizes = {tuple(image.shape): name for (image, _), name in zip(pairs, names, strict=True)}
        if len(sizes) > 1:
            (one, first), (other, second), *_ = sizes.items()
            raise UserError(
                f"images differ in shape: {first} is {one}, {second} is {other}", remedy=self.differ_in_size
            )
        images = torch.stack([image for image, _ in pairs])  # (N, C, H, W)
        labels = torch.stack([label for _, label in pairs])  # (N,) or (N, H, W)
        return Batch(images, labels, torch.as_tensor(kept, dtype=torch.int64), names)

    def fingerprint(self, indices: Sequence[int]) -> str:
        """A short hash of what these images and labels are."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update("\0".join((self.task, *self.classes)).encode())
        for index in indices:
            try:
                content = self.identity(index)
            except BrokenImageError:
                if self.on_error == "stop":
                    raise
                content = b"broken"
            digest.update(index.to_bytes(8, "little") + content)
        return digest.hexdigest()
