"""What an image can be made to wear: its own patch, another class's, none of any, and what befalls a patch.

Each is shown on the same images under the same keys, so that whatever follows, noise or attack, draws the same for all.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from vallum.data import Data
from vallum.defences.defensive_patches.backgrounds import backgrounds
from vallum.defences.defensive_patches.laying import matrix_of
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.images import Batch, Draws
from vallum.threats.placement import Placement


@dataclass(frozen=True)
class Wear:
    """Subclasses are frozen dataclasses; the class of the patch that an image wears need not be the image's own."""

    patches: PatchSet

    def worn(self, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        """(N,): whose patch each image wears."""
        return labels

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        return self.patches.lay(images, self.worn(labels, keys))

    @property
    def mark(self) -> str:
        """Changes whenever the images may."""
        said = [f"{one.name}={getattr(self, one.name)}" for one in fields(self) if one.name != "patches"]
        return f"{type(self).__name__}({', '.join(said)}) {self.patches.fingerprint}"


@dataclass(frozen=True)
class Own(Wear):
    """The patch of its class: what whoever sticks patches on knows."""


@dataclass(frozen=True)
class Nothing(Wear):
    """The image as it is."""

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        return images


@dataclass(frozen=True)
class Grey(Wear):
    """Mid-grey where the patch would be: what it costs to hide those pixels."""

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        return self._covered(images, torch.full_like(images, 0.5))

    def _covered(self, images: Tensor, colours: Tensor) -> Tensor:
        there = self.patches.laid(images, torch.zeros(len(images), dtype=torch.int64))[1]
        return images * (1 - there) + colours * there


@dataclass(frozen=True)
class Noise(Grey):
    """Colours drawn for each pixel of each image."""

    seed: int = 0

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        drawn = Draws(self.seed, keys).uniform(*images.shape[1:], purpose="random patch", device=images.device)
        return self._covered(images, drawn.to(images))


@dataclass(frozen=True)
class Alone(Wear):
    """The patch of the class on a picture without any object: whether the object matters at all."""

    seed: int = 0

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        return super().show(backgrounds(images, Draws(self.seed, keys, "alone")), labels, keys)


@dataclass(frozen=True)
class Wrong(Wear):
    """The patch of another class, drawn for each image: that of a careless hand, or of an attacker."""

    seed: int = 0

    def worn(self, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        classes = len(self.patches.classes)
        return (labels + 1 + Draws(self.seed, keys).integers(classes - 1, purpose="wrong patch")) % classes


@dataclass(frozen=True)
class Permuted(Wear):
    """The patch of another class, the same for all images of a class: patches whose names were mixed up."""

    seed: int = 0

    def worn(self, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        classes = len(self.patches.classes)
        order = torch.randperm(classes, generator=torch.Generator().manual_seed(self.seed))
        following = torch.empty_like(order)
        following[order] = order.roll(-1)  # one cycle through all classes: none keeps its own
        return following[labels]


@dataclass(frozen=True)
class Beside(Wrong):
    """Its own patch, and within its hole a smaller one of another class: stuck on the object by an attacker."""

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        hole = self.patches.hole
        scale = min(own / size for own, size in zip(hole, self.patches.mask.shape, strict=True)) if hole else 0.5
        middle = Placement.centred(images)
        smaller = Placement(middle.row, middle.column, middle.degrees, torch.full_like(middle.scale, scale))
        both = self.patches.lay(images, labels)
        return self.patches.lay(both, self.worn(labels, keys), placed=matrix_of(smaller, images))


@dataclass(frozen=True)
class Peeled(Wear):
    """Its own patch, of which a share is gone: a sector, elsewhere on each image."""

    share: float = 0.25
    seed: int = 0

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        height, width = images.shape[2:]
        down, right = (torch.arange(size) + 0.5 - size / 2 for size in (height, width))
        angle = torch.atan2(down[:, None], right[None]) / (2 * math.pi)  # (H, W) in turns
        start = Draws(self.seed, keys).uniform(1, 1, purpose="peeled")
        gone = (angle - start) % 1 < self.share  # (N, H, W)
        return torch.where(gone[:, None].to(images.device), images, super().show(images, labels, keys))


@dataclass(frozen=True)
class Askew(Wear):
    """Its own patch, not quite where it should be; to which side is drawn for each image."""

    by: Literal["shift", "rotation", "scale"] = "shift"
    amount: float = 1.0  # pixels of the image, degrees, or how many times larger (below 1: smaller)
    seed: int = 0

    def show(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor) -> Tensor:
        drawn = Draws(self.seed, keys).uniform(1, purpose="askew", device=images.device)[:, 0].to(images)
        side, turn = torch.where(drawn < 0.5, -1.0, 1.0), 2 * math.pi * drawn
        place = Placement.centred(images)
        if self.by == "shift":
            place = Placement.at(place.row + self.amount * turn.sin(), place.column + self.amount * turn.cos())
        elif self.by == "rotation":
            place = Placement(place.row, place.column, self.amount * side, place.scale)
        else:
            place = Placement(place.row, place.column, place.degrees, torch.full_like(place.scale, self.amount))
        return self.patches.lay(images, self.worn(labels, keys), placed=matrix_of(place, images))


class Wearing(Data):
    """The images of `data`, each with what it wears; their keys, and so all that they draw, stay theirs."""

    def __init__(self, data: Data, wear: Wear, name: str) -> None:
        self.inner, self.wear = data, wear
        self._mark = hashlib.blake2b(wear.mark.encode(), digest_size=8).digest()
        self.task, self.classes, self.on_error = data.task, data.classes, data.on_error
        self.spec = f"{data.spec} ({name})"

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        batch = self.batch([index])
        return batch.images[0], batch.labels[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        batch = self.inner.batch(indices)
        self.skipped.update(self.inner.skipped)
        if not len(batch):
            return batch
        shown = self.wear.show(batch.images, batch.labels, batch.keys)
        return Batch(shown, batch.labels, batch.keys, batch.names)

    def identity(self, index: int) -> bytes:
        return self.inner.identity(index) + self._mark

    def name(self, index: int) -> str:
        return self.inner.name(index)


class EachPatch(Data):
    """Each image with each of the patches in turn: image i with patch k has the key i * C + k."""

    def __init__(self, data: Data, patches: PatchSet, indices: Sequence[int]) -> None:
        self.inner, self.patches, self.indices = data, patches, list(indices)
        self._mark = patches.fingerprint.encode()
        self.task, self.classes, self.on_error = data.task, data.classes, data.on_error
        self.spec = f"{data.spec} (each patch)"

    def __len__(self) -> int:
        return len(self.indices) * len(self.patches.classes)

    def of(self, keys: Any) -> tuple[Any, Any]:
        """Of a key the place among `indices`, and the patch."""
        return keys // len(self.patches.classes), keys % len(self.patches.classes)

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        batch = self.batch([index])
        return batch.images[0], batch.labels[0]

    def batch(self, indices: Sequence[int]) -> Batch:
        place, patch = self.of(torch.as_tensor(indices))
        wanted, back = place.unique(return_inverse=True)
        batch = self.inner.batch([self.indices[one] for one in wanted.tolist()])
        self.skipped.update(self.inner.skipped)
        found = {key: row for row, key in enumerate(batch.keys.tolist())}
        rows = [(at, found.get(self.indices[int(wanted[one])])) for at, one in enumerate(back.tolist())]
        kept = [(at, row) for at, row in rows if row is not None]
        if not kept:
            return batch
        at, row = (torch.tensor(one) for one in zip(*kept, strict=True))
        shown = self.patches.lay(batch.images[row], patch[at])
        names = [f"{batch.names[one]} as {self.classes[k]}" for one, k in zip(row, patch[at].tolist(), strict=True)]
        return Batch(shown, batch.labels[row], torch.as_tensor(indices)[at], names)

    def identity(self, index: int) -> bytes:
        place, patch = self.of(index)
        return self.inner.identity(self.indices[place]) + patch.to_bytes(4, "little") + self._mark

    def name(self, index: int) -> str:
        place, patch = self.of(index)
        return f"{self.inner.name(self.indices[place])} as {self.classes[patch]}"
