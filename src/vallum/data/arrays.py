"""Images and labels in two arrays, or two tensors, or two arrays on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vallum.data.pictures import Pictures
from vallum.data.request import Request
from vallum.data.stored import StoredArray
from vallum.errors import UserError
from vallum.images import Task

Numbers = Tensor | np.ndarray | StoredArray


class Arrays(Pictures):
    """Image i is `images[i]`; its label is `labels[i]`, a number, or a mask where `labels` has three axes."""

    def __init__(
        self, images: Numbers, labels: Numbers, classes: Sequence[str] | None, request: Request, where: str
    ) -> None:
        pictures, targets = tuple(images.shape), tuple(labels.shape)
        if pictures and not pictures[0]:
            raise UserError(f"{where} holds no image", "at least one", "check how it is made")
        if len(pictures) not in (3, 4):
            raise UserError(
                f"the images of {where} have shape {pictures}", "(N, H, W, C) or (N, C, H, W)", "reshape them"
            )
        masks = len(targets) == 3 or (len(targets) == 4 and targets[1] == 1)
        if not masks and targets not in ((pictures[0],), (pictures[0], 1)):
            raise UserError(
                f"the labels of {where} have shape {targets}",
                f"({pictures[0]},), or masks ({pictures[0]}, H, W), for {pictures[0]} images",
                "give each image one label",
            )
        if masks and targets[0] != pictures[0]:
            raise UserError(f"{where} has {pictures[0]} images and {targets[0]} masks", "one mask for each image")
        self.images, self.labels, self.source = images, labels, where
        super().__init__(Task.SEGMENT if masks else Task.CLASSIFY, classes or (), request)
        if not self.classes:
            self.classes = self.counted(where)
        if self.on_error == "stop":
            self.read(0)  # pixels in 0..255 and the like are wrong everywhere: better said now than in the first batch

    def __len__(self) -> int:
        return len(self.images)

    def where(self, index: int) -> str:
        return f"image {index} of {self.source}"

    def item(self, index: int) -> tuple[Any, Any]:
        return self.images[index], self.labels[index]

    def label(self, index: int) -> Any:
        return self.labels[index]
