"""Some images of a data set, as a data set."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vallum.data.data import Data
from vallum.errors import UserError
from vallum.images import Batch


class Part(Data):
    """The images at `indices` of `whole`, in that order, under the numbers that they have there.

    `name` says which part it is. It has no spec that loads it again: the object itself is passed around.
    """

    def __init__(self, whole: Data, indices: Sequence[int], name: str) -> None:
        self.whole, self.indices = whole, [int(index) for index in indices]
        self.task, self.classes, self.on_error = whole.task, whole.classes, whole.on_error
        self.spec = f"{whole.spec} ({name})"
        if any(not 0 <= index < len(whole) for index in self.indices):
            raise UserError(f"a part of {whole.spec or 'the data'} names images that are not there")

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        return self.whole.read(self.indices[index])

    def batch(self, indices: Sequence[int]) -> Batch:
        """As the whole makes them, many at once; keys are places in the part."""
        batch = self.whole.batch([self.indices[index] for index in indices])
        places = {self.indices[index]: index for index in indices}
        self.skipped.update(self.whole.skipped)
        keys = batch.keys.clone()
        for row, key in enumerate(batch.keys.tolist()):
            keys[row] = places[key]
        return Batch(batch.images, batch.labels, keys, batch.names)

    def identity(self, index: int) -> bytes:
        return self.whole.identity(self.indices[index])

    def name(self, index: int) -> str:
        return self.whole.name(self.indices[index])
