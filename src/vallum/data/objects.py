"""Data sets made in Python: a PyTorch Dataset or DataLoader, a list of pairs, or a pair of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from vallum.data.arrays import Arrays
from vallum.data.data import BrokenImageError, Data
from vallum.data.decoding import as_planes
from vallum.data.pictures import Pictures, count_classes
from vallum.data.request import Request
from vallum.errors import UserError, a
from vallum.images import Task

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "input", "x")
LABEL_KEYS = ("label", "labels", "target", "mask", "segmentation", "annotation", "class", "y")


class Items(Pictures):
    """A map-style data set of (image, label) items, or of mappings with such keys.

    Without `classes`, and without a list of classes or labels on the data set, each item is read once to count them.
    """

    def __init__(self, items: Any, request: Request, classes: Sequence[str] | None = None, where: str = "") -> None:
        self.items, self.source = items, where or type(items).__name__
        super().__init__(request.task or Task.CLASSIFY, classes or (), request)
        if not len(items):
            raise UserError(f"{self.source} is empty", "at least one image", "check how it is made")
        first = self._first_readable()
        if request.task is None:
            self.task = Task.SEGMENT if _is_mask(self.item(first)[1]) else Task.CLASSIFY
        self._check_it_repeats(first)
        self.classes = self.classes or _named_classes(items) or self.counted(self.source)
        if self.on_error == "stop":
            self.read(first)

    def __len__(self) -> int:
        return len(self.items)

    def where(self, index: int) -> str:
        return f"item {index} of {self.source}"

    def item(self, index: int) -> tuple[Any, Any]:
        where = self.where(index)
        try:
            item = self.items[index]
        except Exception as error:  # whatever the user's own code meets when it reads one broken file
            raise BrokenImageError(
                f"{where} cannot be read ({type(error).__name__}: {error})",
                "an image and its label",
                "mend it, or go on without it: on_error=skip",
            ) from error
        if isinstance(item, Mapping):
            image = next((item[key] for key in IMAGE_KEYS if key in item), None)
            label = next((item[key] for key in LABEL_KEYS if key in item), None)
            if image is not None and label is not None:
                return image, label
        elif isinstance(item, tuple | list) and len(item) >= 2:
            return item[0], item[1]
        raise BrokenImageError(f"{where} is {a(item)}", "(image, label)", "return that, or a dict with image and label")

    def _first_readable(self) -> int:
        for index in range(len(self)):
            try:
                as_planes(self.item(index)[0], self.where(index))
                return index
            except BrokenImageError:
                if self.on_error == "stop":
                    raise
        raise UserError(
            f"no item of {self.source} can be read", "(image, label)", "read one without skipping to see why"
        )

    def _check_it_repeats(self, index: int) -> None:
        once, again = (as_planes(self.item(index)[0], self.where(index)) for _ in range(2))
        if [plane.tobytes() for plane in once] != [plane.tobytes() for plane in again]:
            raise UserError(
                f"{self.where(index)} differs each time it is read",
                "one image for each place",
                "take the random augmentation out",
            )


def from_object(source: Any, request: Request) -> Data:
    """The data in a Python object, which no string can load again: its spec says what it was."""
    where = type(source).__name__
    if isinstance(source, DataLoader):
        source = source.dataset  # its order, batches and workers are the evaluation's to choose
    if isinstance(source, IterableDataset) or not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise UserError(
            f"{a(source)} cannot be read by place",
            "the same image at the same place in every run, so that runs can be resumed and compared",
            "pass a map-style data set, a list of (image, label), or a pair (images, labels) of tensors",
        )
    pair = isinstance(source, tuple) and len(source) == 2
    data: Data
    if pair and all(isinstance(part, Tensor | np.ndarray) for part in source):
        data = Arrays(source[0], source[1], request.classes, request, "(images, labels)")
    else:
        data = Items(source, request, request.classes)
    data.spec = f"python:{where}"
    return data


def _is_mask(label: Any) -> bool:
    return isinstance(label, bytes | Image.Image) or (isinstance(label, Tensor | np.ndarray) and label.ndim >= 2)


def _named_classes(items: Any) -> tuple[str, ...]:
    """What a data set says of its classes: their names, or labels from which to count them."""
    while isinstance(items, Subset):
        items = items.dataset
    names = getattr(items, "classes", None)
    if isinstance(names, Sequence) and not isinstance(names, str) and names:
        # ImageNet's classes are tuples of synonyms.
        return tuple(str(name[0]) if isinstance(name, tuple) and name else str(name) for name in names)
    for attribute in ("targets", "labels"):
        labels = getattr(items, attribute, None)
        if isinstance(labels, Sequence | Tensor | np.ndarray) and len(labels):
            numbers = np.asarray(labels)
            if numbers.ndim == 1 and numbers.dtype.kind in "iu":
                return count_classes(numbers.tolist(), type(items).__name__)
    return ()
