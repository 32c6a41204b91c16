"""Heaps: which images of a weight step share a perturbation, over its parts and over processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vallum.defences.recipe import Context
from vallum.errors import UserError
from vallum.images import Batch, Draws

Sharedness = int | Literal["batch", "class", "mixed"]
SIZES = (1, 8, 64)  # that "mixed" draws from, and the whole batch


@dataclass
class Heaps:
    """Every process numbers the heaps alike, so that what is summed over processes falls into place."""

    count: int
    of: list[Tensor]  # for each part of the step, (n,) which heap each image is in
    draws: Draws  # one key per heap
    alone: bool  # each heap is one image, which only the process that has it needs to know


def make_heaps(batches: Sequence[Batch], context: Context, sharedness: Sharedness, classes: int | None) -> Heaps:
    """Slices of the step's images, which come in random order; or, by class, all those with the same label."""
    draws = Draws(context.seed, [0], f"step {context.step}/shared training")
    size = sharedness
    if sharedness == "mixed":
        choices = (*SIZES, context.total)
        size = choices[int(draws.integers(len(choices), purpose="sharedness"))]
    if size == 1:
        # The draws are those of adversarial training, which this then is.
        keys = [int(key) for batch in batches for key in batch.keys]
        alone = Draws(context.seed_of_epoch("adversarial"), keys, "PGD/restart 0")
        return Heaps(len(keys), _numbered(batches, 0), alone, alone=True)
    if size == "class":
        if classes is None or any(batch.labels.ndim > 1 for batch in batches):
            raise UserError(
                "sharedness=class is for classifiers", "an image of a segmenter has many classes", "write a number"
            )
        count, of = classes, [batch.labels for batch in batches]
    else:
        length = context.total if size == "batch" else int(size)
        count = -(-context.total // length)
        of = [places // length for places in _numbered(batches, context.offset)]
    return Heaps(count, of, Draws(context.seed, range(count), draws.owner), alone=False)


def _numbered(batches: Sequence[Batch], first: int) -> list[Tensor]:
    """The places of the images in the step, counted from `first`."""
    places = []
    for batch in batches:
        places.append(torch.arange(first, first + len(batch), device=batch.images.device))
        first += len(batch)
    return places
