"""What every source of stored pictures shares: decoded, sized and checked when asked for, and not kept."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vallum.data.data import BrokenImageError, Data
from vallum.data.decoding import as_mask, as_planes, as_tensor
from vallum.data.request import Request
from vallum.data.sizing import crop_to, stretch_mask, stretch_to
from vallum.errors import UserError
from vallum.images import IGNORE, Task


class Pictures(Data):
    """A source implements `__len__` and `item`, which gives the picture and its label as they are stored."""

    def __init__(self, task: Task, classes: Sequence[str], request: Request) -> None:
        self.task, self.classes, self.on_error, self.spec = task, tuple(classes), request.on_error, ""
        self.size, self.channels = request.size, request.channels

    @abstractmethod
    def item(self, index: int) -> tuple[Any, Any]:
        """Picture (a file's bytes, Pillow image, array or tensor) and label (a number, or a mask in one of those)."""

    def label(self, index: int) -> Any:
        """The label alone; worth overriding where the picture need not be touched for it."""
        return self.item(index)[1]

    def where(self, index: int) -> str:
        """How error messages name this image."""
        return f"image {self.name(index)}"

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        where = self.where(index)
        picture, label = self.item(index)
        planes = as_planes(picture, where)
        channels = self.channels or (3 if isinstance(picture, bytes | Image.Image) else None)
        if self.task is Task.CLASSIFY:
            number = as_number(label, where)
            if not 0 <= number < len(self.classes):
                raise BrokenImageError(
                    f"{where} has label {number}", _known(self.classes), "pass all the classes, or mend the label"
                )
            planes = crop_to(planes, self.size, where) if self.size else planes
            return as_tensor(planes, channels), torch.tensor(number)
        mask = as_mask(label, where)
        if mask.shape != planes[0].size[::-1]:
            raise BrokenImageError(
                f"{where} is {_by(planes[0].size[::-1])}, its mask {_by(mask.shape)}",
                "a mask has a value for each pixel",
                "bring both to one size before",
            )
        self._check_mask(mask, where)
        if self.size:
            planes, mask = stretch_to(planes, self.size), stretch_mask(mask, self.size)
        return as_tensor(planes, channels), torch.from_numpy(np.ascontiguousarray(mask))

    def identity(self, index: int) -> bytes:
        image, label = self.read(index)
        return hashed(repr(image.shape), image.numpy().tobytes(), label.numpy().tobytes())

    def counted(self, what: str) -> tuple[str, ...]:
        """Classes "0" up to the highest label, where nobody has named them: every label is read once."""
        return count_classes(self._highest(), what)

    def _highest(self) -> Iterator[int]:
        for index in range(len(self)):
            try:
                label, where = self.label(index), self.where(index)
                yield highest_in(as_mask(label, where)) if self.task is Task.SEGMENT else as_number(label, where)
            except BrokenImageError:
                if self.on_error == "stop":
                    raise

    def _check_mask(self, mask: np.ndarray, where: str) -> None:
        strange = (mask != IGNORE) & ((mask < 0) | (mask >= len(self.classes)))
        if strange.any():
            raise BrokenImageError(
                f"the mask of {where} holds {mask[strange][0]} at {int(strange.sum())} pixels",
                f"{_known(self.classes)}, and {IGNORE} where it is ignored",
                "pass all the classes, or mend the mask",
            )


def as_number(label: Any, where: str) -> int:
    """The class number in an int, or in an array or tensor that holds one."""
    numbers = np.asarray(label.detach().cpu() if isinstance(label, Tensor) else label)
    if numbers.size != 1 or numbers.dtype.kind not in "iub":
        raise BrokenImageError(
            f"{where} has the label {str(label)[:60]!r}", "one whole number, the class", "mend the data set's labels"
        )
    return int(numbers.item())


def count_classes(highest: Iterable[int], what: str) -> tuple[str, ...]:
    top = max(highest, default=-1)
    if top < 0:
        raise UserError(f"{what} holds no label", "each image needs one", "name the classes: classes=cat,dog")
    return tuple(map(str, range(top + 1)))


def highest_in(mask: np.ndarray) -> int:
    """The highest class in a mask, -1 where all of it is ignored."""
    known = mask[mask != IGNORE]
    return int(known.max()) if known.size else -1


def hashed(*parts: str | bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "little"))  # so that no two lists of parts look alike
        digest.update(content)
    return digest.digest()


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _known(classes: Sequence[str]) -> str:
    return f"there are {len(classes)} classes, 0 to {len(classes) - 1}"
