"""What a batch of images is, how it is checked, and where its randomness comes from.

Images are float tensors in [0, 1], shape (N, C, H, W), on any device. Labels are integers: one per image for a
classifier, one per pixel for a segmenter, where 255 is ignored.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vallum.errors import UserError, a
from vallum.ziggurat import normal, words

IGNORE = 255  # the label of pixels that belong to no class


class Task(StrEnum):
    CLASSIFY = "classify"  # logits (N, K), labels (N,)
    SEGMENT = "segment"  # logits (N, K, H, W), labels (N, H, W)


@dataclass
class Batch:
    """Some images of a data set, with all that is known of them."""

    images: Tensor  # (N, C, H, W) float in [0, 1]
    labels: Tensor  # (N,) or (N, H, W) int64
    keys: Tensor  # (N,) int64, on the CPU: the image's place in its data set, which its random draws depend on
    names: list[str]  # what a person calls them

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.images.to(device), self.labels.to(device), self.keys, self.names)


def check_images(images: Tensor, where: str = "images") -> None:
    """Raise a UserError that names the remedy unless `images` are float, (N, C, H, W), finite and in [0, 1].

    >>> check_images(torch.rand(2, 3, 8, 8))
    >>> check_images(torch.full((2, 3, 8, 8), 255.0))
    Traceback (most recent call last):
    vallum.errors.UserError: images reach 255.0: vallum's images are in [0, 1]; divide them by 255
    """
    one = not where.startswith(("images", "the images"))  # as "image 3 of photos.npz"
    are, have, hold, reach, lie = (
        ("is", "has", "holds", "reaches", "lies") if one else ("are", "have", "hold", "reach", "lie")
    )
    if not isinstance(images, Tensor):
        raise UserError(f"{where} {are} {a(images)}", "a torch.Tensor is needed", "use torch.as_tensor")
    if images.ndim != 4:
        raise UserError(
            f"{where} {have} shape {tuple(images.shape)}",
            "(N, C, H, W) is needed",
            "add a batch axis with images[None]",
        )
    if images.numel() == 0:
        raise UserError(f"{where} {are} empty: shape {tuple(images.shape)}", remedy="check what was selected")
    if images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        raise UserError(
            f"{where} {have} shape {tuple(images.shape)}",
            "channels come first: (N, C, H, W)",
            "use images.permute(0, 3, 1, 2)",
        )
    if not images.is_floating_point():
        raise UserError(f"{where} {are} {images.dtype}", "floats in [0, 1] are needed", "use images.float() / 255")
    low, high = (float(value) for value in images.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{where} {hold} NaN or infinity", "finite values in [0, 1] are needed", "check the loader")
    if high > 2 and low >= 0:
        raise UserError(f"{where} {reach} {high:.1f}", "vallum's images are in [0, 1]", "divide them by 255")
    if low < -1e-6 or high > 1 + 1e-6:
        raise UserError(
            f"{where} {lie} in [{low:.2f}, {high:.2f}]",
            "vallum's images are in [0, 1]",
            "take the normalisation out of the data and give it to the model: load_model(..., mean=, std=)",
        )


@dataclass(frozen=True)
class Draws:
    """Randomness in which each image stands alone.

    What image i draws depends on (seed, its key, the purpose) and nothing else: not on the batch it is in, its place
    there, or the number of processes. Draws are made on the CPU, by a counter-based generator that gives the same bits
    on every platform, and then moved: an image meets the same noise on every device.

    >>> one, two = Draws(0, [7]), Draws(0, [3, 7])
    >>> bool((one.normal(4, purpose="noise")[0] == two.normal(4, purpose="noise")[1]).all())
    True
    """

    seed: int
    keys: Sequence[int] | Tensor
    owner: str = ""  # who draws: two attacks that both draw a "start" draw different ones

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, which: Tensor) -> Draws:
        """The draws of some of the images: a boolean mask or indices."""
        return Draws(self.seed, torch.as_tensor(self.keys)[which.cpu()], self.owner)

    def of(self, owner: object) -> Draws:
        """The draws of one part of a whole: an attack, a restart, a step."""
        return Draws(self.seed, self.keys, f"{self.owner}/{owner}" if self.owner else str(owner))

    def uniform(self, *shape: int, purpose: str, device: torch.device | str = "cpu") -> Tensor:
        """In [0, 1), shape (N, *shape)."""
        return self._each(purpose, shape, device, lambda stream: _uniform(stream, shape))

    def normal(self, *shape: int, purpose: str, device: torch.device | str = "cpu") -> Tensor:
        """Standard normal, shape (N, *shape)."""
        return self._each(purpose, shape, device, lambda stream: normal(stream, shape))

    def exponential(self, *shape: int, purpose: str, device: torch.device | str = "cpu") -> Tensor:
        """Of mean 1, shape (N, *shape)."""
        return self._each(purpose, shape, device, lambda stream: stream.standard_exponential(shape, dtype=np.float32))

    def integers(self, high: int, *shape: int, purpose: str, device: torch.device | str = "cpu") -> Tensor:
        """In 0 .. high - 1, shape (N, *shape), int64."""
        return self._each(purpose, shape, device, lambda stream: stream.integers(high, size=shape), np.int64)

    def each(self, purpose: str) -> list[np.random.Generator]:
        """One NumPy generator per image, for draws that none of the above makes."""
        # (seed, purpose) and the image's key are the two words of Philox's key: no two images can share a stream.
        path = "/".join(filter(None, (str(self.seed), self.owner, purpose)))
        word = int.from_bytes(hashlib.blake2b(path.encode(errors="surrogatepass"), digest_size=8).digest(), "little")
        keys = self.keys.tolist() if isinstance(self.keys, Tensor) else [int(key) for key in self.keys]
        if not all(-(2**63) <= key < 2**63 for key in keys):
            raise UserError(f"an image has the key {max(keys, key=abs)}", "keys are 64-bit integers")
        return [np.random.Generator(np.random.Philox(key=np.array([word, key % 2**64], np.uint64))) for key in keys]

    def _each(
        self,
        purpose: str,
        shape: tuple[int, ...],
        device: torch.device | str,
        draw: Callable[[np.random.Generator], np.ndarray],
        dtype: type = np.float32,
    ) -> Tensor:
        drawn: np.ndarray = np.empty((len(self), *shape), dtype)

        def fill(row: int, stream: np.random.Generator) -> None:
            drawn[row] = draw(stream)

        streams = self.each(purpose)
        threads = min(torch.get_num_threads(), len(self)) if drawn.size >= 2**16 else 1
        if threads > 1:  # each image has its own stream, and NumPy draws without holding the interpreter
            list(_pool(threads, os.getpid()).map(fill, range(len(self)), streams))
        else:
            for row, stream in enumerate(streams):
                fill(row, stream)
        return torch.from_numpy(drawn).to(device)


@lru_cache(maxsize=4)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Kept, because starting threads takes as long as drawing; a forked process has none of its parent's."""
    return ThreadPoolExecutor(threads, "draws")


def _uniform(stream: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The bits of `stream.random(shape, np.float32)`, 24 of every 32 that the stream gives, in less time."""
    drawn = (words(stream, math.prod(shape)) >> 8).astype(np.float32)
    drawn *= np.float32(2**-24)
    return drawn.reshape(shape)
