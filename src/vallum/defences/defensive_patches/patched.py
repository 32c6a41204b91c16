"""Images of objects that wear their patches: what `vallum evaluate` takes to measure them.

A patch is stuck on before any camera, by somebody who knows what the object is. So it belongs to the images and not to
the model: whatever noise or attack follows acts on the patched image, in `evaluate` as in the world. It is no defence
around a model, because it needs a label that a model is there to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vallum.data import Data, load_data
from vallum.data.request import DATA_SOURCES, Request
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.errors import UserError
from vallum.images import Batch, Task
from vallum.specs import Source


class Patched(Data):
    """The images of `data`, each with the patch of its class; their keys, and so all that they draw, stay theirs.

    >>> import torch
    >>> data = load_data((torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])), classes=["stop", "yield"])
    >>> patches = PatchSet(torch.ones(2, 3, 2, 2), torch.ones(2, 2), ("stop", "yield"), image_size=(4, 4))
    >>> float(Patched(data, patches).batch([1]).images.sum())
    12.0
    """

    def __init__(self, data: Any, patches: PatchSet, folder: str = "") -> None:
        self.inner, self.patches = load_data(data), patches
        if self.inner.task is not Task.CLASSIFY:
            raise UserError(f"the data are there to {self.inner.task}", "a patch tells the class of an object")
        if len(patches.classes) != len(self.inner.classes):
            raise UserError(
                f"patches of {len(patches.classes)} classes", f"the data have {len(self.inner.classes)}", "make others"
            )
        if set(patches.classes) == set(self.inner.classes) and patches.classes != self.inner.classes:
            raise UserError("the patches have the data's classes in another order", remedy="load the data as they were")
        self.task, self.classes, self.on_error = Task.CLASSIFY, self.inner.classes, self.inner.on_error
        source = Source("patched", folder, {"data": self.inner.spec})
        self.spec = str(source) if folder else f"{self.inner.spec} (patched)"

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.inner.read(index)
        return self.patches.lay(image[None], label[None])[0], label

    def batch(self, indices: Sequence[int]) -> Batch:
        batch = self.inner.batch(indices)
        self.skipped.update(self.inner.skipped)
        if not len(batch):
            return batch
        return Batch(self.patches.lay(batch.images, batch.labels), batch.labels, batch.keys, batch.names)

    def identity(self, index: int) -> bytes:
        return self.inner.identity(index) + self.patches.fingerprint.encode()

    def name(self, index: int) -> str:
        return self.inner.name(index)


@DATA_SOURCES.register("patched", data="the images that wear them")
def load_patched(source: Source, request: Request) -> Data:
    """Images with defensive patches on them: patched:FOLDER?data=builtin:signs, of `vallum patch make --out FOLDER`."""
    source.refuse_unknown("data")
    if "data" not in source.options:
        raise UserError(f"{source} lacks data=", remedy=f"write patched:{source.rest}?data=builtin:signs")
    inner = load_data(source.options["data"], size=request.size, on_error=request.on_error)
    return Patched(inner, PatchSet.load(source.rest), str(Path(source.rest)))
