"""Picture files with their labels: a number each, or a mask file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vallum.data.data import BrokenImageError
from vallum.data.decoding import as_mask, as_mask_of_colours
from vallum.data.pictures import Pictures, hashed
from vallum.data.request import Request
from vallum.data.storage import Storage, readable
from vallum.errors import UserError
from vallum.images import Task


class Files(Pictures):
    """Pictures of a storage. What its listing found wrong is raised at once, or where it is skipped, when it is met."""

    def __init__(
        self,
        storage: Storage,
        names: Sequence[str],
        task: Task,
        classes: Sequence[str],
        problems: Mapping[str, BrokenImageError],
        request: Request,
    ) -> None:
        super().__init__(task, classes, request)
        self.storage, self.names, self.problems = storage, list(names), dict(problems)
        if self.problems and self.on_error == "stop":
            first, *others = self.problems.values()
            more = f" (and {len(others)} more)" if others else ""
            raise BrokenImageError(f"{first.wrong}{more}", first.expected, first.remedy)
        if not self.names:
            raise UserError(
                f"{storage.path} holds no pictures", "PNG, JPEG, WebP, BMP, PPM or TIFF files", "check the path"
            )
        for name in self.problems.keys() - set(self.names):  # folders and the like, which no batch will meet
            self.skipped[readable(name)] = str(self.problems[name])

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return readable(self.names[index])

    def where(self, index: int) -> str:
        return self.storage.where(self.names[index])

    def refuse_problem(self, index: int) -> None:
        if self.names[index] in self.problems:
            raise self.problems[self.names[index]]

    def content(self, index: int) -> bytes:
        self.refuse_problem(index)
        return self.storage.read(self.names[index])


class LabelledFiles(Files):
    """A classifier's pictures: `labels` has the number of each one's class."""

    def __init__(
        self,
        storage: Storage,
        names: Sequence[str],
        labels: Sequence[int],
        classes: Sequence[str],
        problems: Mapping[str, BrokenImageError],
        request: Request,
    ) -> None:
        super().__init__(storage, names, Task.CLASSIFY, classes, problems, request)
        self.labels = np.asarray(labels, dtype=np.int32)

    def item(self, index: int) -> tuple[bytes, int]:
        return self.content(index), int(self.labels[index])

    def identity(self, index: int) -> bytes:
        return hashed(repr((self.size, self.channels, int(self.labels[index]))), self.content(index))


class MaskedFiles(Files):
    """A segmenter's pictures: `masks` has the file of each one's mask, None where it has none.

    `table[value]` is the class that a mask's value stands for, where they differ; `colours` has the class that each
    colour stands for, where masks are in colours. Without `classes` they are counted, which reads every mask once.
    """

    def __init__(
        self,
        storage: Storage,
        names: Sequence[str],
        masks: Sequence[str | None],
        classes: Sequence[str] | None,
        problems: Mapping[str, BrokenImageError],
        request: Request,
        table: np.ndarray | None = None,
        colours: Mapping[tuple[int, int, int], int] | None = None,
    ) -> None:
        problems = dict(problems)
        for name, mask in zip(names, masks, strict=True):
            wrong = _no_mask(storage.where(name)) if mask is None else problems.pop(mask, None)
            if wrong is not None:
                problems.setdefault(name, wrong)
        self.masks, self.table, self.colours = [mask or "" for mask in masks], table, colours
        super().__init__(storage, names, Task.SEGMENT, classes or (), problems, request)
        self.classes = self.classes or self._counted()

    def item(self, index: int) -> tuple[bytes, np.ndarray]:
        return self.content(index), self.label(index)

    def identity(self, index: int) -> bytes:
        return hashed(
            repr((self.size, self.channels)),
            self.content(index),
            self.storage.read(self.masks[index]),
            self._table_bytes(),
        )

    def label(self, index: int) -> np.ndarray:
        self.refuse_problem(index)
        name = self.masks[index]
        if self.colours is not None:
            return as_mask_of_colours(self.storage.read(name), self.colours, self.storage.where(name))
        mask = as_mask(self.storage.read(name), self.storage.where(name))
        if self.table is None:
            return mask
        if mask.min() < 0 or mask.max() >= len(self.table):
            raise BrokenImageError(
                f"{self.storage.where(name)} holds {mask.max()}",
                f"values below {len(self.table)}",
                "take the label files",
            )
        return self.table[mask]

    def _table_bytes(self) -> bytes:
        known = b"" if self.table is None else self.table.tobytes()
        return known if self.colours is None else known + repr(sorted(self.colours.items())).encode()

    def _counted(self) -> tuple[str, ...]:
        classes = self.counted(str(self.storage.path))
        if len(classes) == 1:
            raise UserError(
                f"the masks in {self.storage.path} hold no class but 0",
                "255 is where a pixel is ignored",
                "write 1 for the object, or name the classes: classes=cat,dog",
            )
        return classes


def _no_mask(where: str) -> BrokenImageError:
    return BrokenImageError(f"{where} has no mask", "a mask of the same name", "add it, or take the picture away")
