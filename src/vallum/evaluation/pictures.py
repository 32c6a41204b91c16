"""The pictures that a run keeps of a few of its images, for people to look at.

Of each image what it was is kept once, beside its row under the threat `clean`; what a threat made of it is kept as the
difference, stretched to the full range of a PNG, with the factor that takes it back. So an attack of 1/255 loses
nothing by being kept in eight bits, and a difference as large as images can have is exact to 1/255.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vallum.evaluation.plan import Cell

if TYPE_CHECKING:  # who reads pictures needs no torch
    from vallum.images import Batch

COLUMNS = {  # a row per picture
    "model": "VARCHAR",
    "threat": "VARCHAR",
    "surface": "VARCHAR",
    "key": "BIGINT",
    "original": "BLOB",  # PNG, under the threat clean only
    "difference": "BLOB",  # PNG: 128 + 127 times the difference over `scale`
    "scale": "DOUBLE",  # the largest difference
    "truth": "BLOB",  # segmentation only: PNG of the mask, 255 is ignored
    "answer": "BLOB",  # segmentation only: PNG of the model's mask
}
LARGEST = 512  # pixels of the longer side that are kept


@dataclass(frozen=True)
class Picture:
    """A kept picture, read: arrays are (H, W, channels) in [0, 1], masks (H, W)."""

    model: str
    threat: str
    surface: str
    key: int
    original: np.ndarray | None
    difference: np.ndarray
    truth: np.ndarray | None
    answer: np.ndarray | None


def spread(images: Sequence[int], count: int) -> list[int]:
    """`count` of the images at even distances: neighbours in a folder are often of one class.

    >>> spread(range(100), 4)
    [0, 25, 50, 75]
    """
    count = min(count, len(images))
    return [images[i * len(images) // count] for i in range(count)]


def keep(cell: Cell, rows: list[dict[str, Any]], batch: Batch, found: Any, truth: Any, logits: Any) -> list[Any]:
    """A row of COLUMNS for each image of the cell whose picture is to be kept; `found` are the changed images."""
    kept = []
    for i, row in enumerate(rows):
        if row["key"] not in cell.pictures:
            continue
        before, after = _pixels(batch.images[i]), _pixels(found[i])
        scale = float(np.abs(after - before).max())
        stretched = 128 + 127 * (after - before) / scale if scale else np.full_like(before, 128)
        original = _png(255 * before) if row["threat"] == "clean" else None
        masks = (_mask(truth[i]), _mask(logits[i].argmax(0))) if logits.ndim == 4 else (None, None)
        named = [row[name] for name in ("model", "threat", "surface", "key")]
        kept.append([*named, original, _png(stretched), scale, *masks])
    return kept


def read(row: Sequence[Any]) -> Picture:
    """A row of COLUMNS as a picture."""
    model, threat, surface, key, original, difference, scale, truth, answer = row
    stretched = _array(difference).astype(np.float64)
    return Picture(
        model,
        threat,
        surface,
        key,
        None if original is None else _array(original) / 255,
        (stretched - 128) / 127 * scale,
        None if truth is None else _array(truth)[..., 0],
        None if answer is None else _array(answer)[..., 0],
    )


def _pixels(image: Any) -> np.ndarray:
    """(C, H, W) tensor to (H, W, 1 or 3), not larger than need be."""
    pixels = image.detach().cpu().double().numpy()
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1]
    times = -(-max(pixels.shape[1:]) // LARGEST)
    if times > 1:  # means over blocks
        _, h, w = pixels.shape
        h, w = h // times * times, w // times * times
        pixels = pixels[:, :h, :w].reshape(len(pixels), h // times, times, w // times, times).mean((2, 4))
    return np.moveaxis(pixels, 0, 2)


def _mask(mask: Any) -> bytes:
    """(H, W) tensor of classes to PNG; a class that eight bits cannot name is drawn as one that is ignored."""
    from vallum.images import IGNORE

    classes = mask.detach().cpu().numpy()
    times = -(-max(classes.shape) // LARGEST)
    if times > 1:  # the same pixels as the picture's blocks, the middle of each
        h, w = (side // times * times for side in classes.shape)
        classes = classes[times // 2 : h : times, times // 2 : w : times]
    return _png(np.where(classes < IGNORE, classes, IGNORE)[..., None])


def _png(values: np.ndarray) -> bytes:
    eight = np.rint(values).clip(0, 255).astype(np.uint8)
    held = io.BytesIO()
    Image.fromarray(eight[..., 0] if eight.shape[2] == 1 else eight).save(held, "png", compress_level=1)
    return held.getvalue()


def _array(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
