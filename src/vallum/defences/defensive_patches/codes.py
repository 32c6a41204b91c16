"""Patches that print nothing but a label: a barcode of the same pixels, an ArUco marker or a QR code of the same area.

Whoever may stick a patch with the right class on an object may as well print the class in plain. What a machine that
reads only that is worth is the measure of a patch that is meant to help a model see.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.errors import UserError
from vallum.models.making import need

DICTIONARIES = ((50, "DICT_4X4_50"), (100, "DICT_4X4_100"), (250, "DICT_4X4_250"), (1000, "DICT_4X4_1000"))
TRIES = 2000  # words that a barcode's are chosen from


def barcode(patches: PatchSet, cell: int | None = None, seed: int = 0) -> PatchSet:
    """Black and white cells under the same mask, another pattern for each class, as far apart as a search finds.

    `cell` is the side of a cell, in pixels of the images; None: as wide as the mask's narrowest part.

    >>> ring = torch.ones(6, 6); ring[2:4, 2:4] = 0
    >>> bars = barcode(PatchSet(torch.rand(3, 3, 6, 6), ring, ("a", "b", "c"), image_size=(6, 6)))
    >>> bars.area == PatchSet(bars.patches, ring, ("a", "b", "c"), (6, 6)).area, sorted(bars.patches.unique().tolist())
    (True, [0.0, 1.0])
    """
    mask, classes = patches.mask.cpu(), len(patches.classes)
    side = cell * patches.fineness if cell else narrowest(mask)
    rows, columns = (torch.arange(size) // side for size in mask.shape)
    numbers = rows[:, None] * (int(columns.max()) + 1) + columns  # (h, w): which cell a pixel is in
    used, place = numbers[mask > 0].unique(), torch.zeros(int(numbers.max()) + 1, dtype=torch.int64)
    place[used] = torch.arange(len(used))
    bits = words(classes, len(used), seed)  # (C, cells)
    colours = bits[:, place[numbers]].float()[:, None].repeat(1, 3, 1, 1)
    return PatchSet(colours * mask, mask, patches.classes, patches.image_size, patches.fineness, patches.shape)


def narrowest(mask: Tensor) -> int:
    """The length of the shortest run of covered pixels along rows and columns."""
    shortest = max(mask.shape)
    for line in (*mask, *mask.T):
        ends = torch.nn.functional.pad(line, (1, 1)).diff().nonzero()[:, 0].tolist()
        shortest = min([shortest, *(stop - start for start, stop in zip(ends[::2], ends[1::2], strict=True))])
    return shortest


def words(count: int, length: int, seed: int) -> Tensor:
    """(count, length) of bits, each word as far from those before it as the farthest of many that were drawn."""
    if 2**length < count:
        raise UserError(f"{length} cells cannot tell {count} classes apart", remedy="give smaller cells")
    drawn = np.random.default_rng(seed).integers(2, size=(max(TRIES, 4 * count), length), dtype=np.int8)
    chosen = [drawn[0]]
    nearest = (drawn != chosen[0]).sum(1)
    for _ in range(count - 1):
        chosen.append(drawn[nearest.argmax()])
        nearest = np.minimum(nearest, (drawn != chosen[-1]).sum(1))
    return torch.from_numpy(np.stack(chosen).astype(np.int64))


def marker(patches: PatchSet, kind: str = "aruco") -> PatchSet:
    """A marker for each class in a corner, on a white square of no more area than the patches have.

    An ArUco marker of 4 x 4 cells, or `kind="qr"`: a QR code with the number of the class, which takes 21.
    """
    cv2 = need("cv2", "patches")
    height, width = patches.image_size
    side = math.isqrt(int(patches.area * height * width + 1e-6))
    drawn = [_qr(cv2, k) if kind == "qr" else _aruco(cv2, k, len(patches.classes)) for k in range(len(patches.classes))]
    modules = max(len(one) for one in drawn)
    each = (side - 2) // modules  # a white pixel all around at least
    if each < 1:
        raise UserError(
            f"a {kind} marker of {modules} cells on {side} x {side} pixels, the patches' area",
            f"{modules + 2} x {modules + 2} at least",
            "take aruco, or larger images" if kind == "qr" else "take a larger shape, or larger images",
        )
    top, left = (max(int(size * 1 / 32), 0) for size in (height, width))
    mask, colours = torch.zeros(height, width), torch.ones(len(drawn), 3, height, width)
    mask[top : top + side, left : left + side] = 1
    for number, one in enumerate(drawn):
        cells = torch.from_numpy(one).float().repeat_interleave(each, 0).repeat_interleave(each, 1)
        above, before = top + (side - len(cells)) // 2, left + (side - len(cells)) // 2
        colours[number, :, above : above + len(cells), before : before + len(cells)] = cells
    return PatchSet(colours * mask, mask, patches.classes, (height, width), 1, kind)


def dictionary(cv2: object, classes: int) -> object:
    """The smallest of OpenCV's dictionaries of 4 x 4 cells that has a marker for each class."""
    for size, name in DICTIONARIES:
        if classes <= size:
            return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, name))  # type: ignore[attr-defined]
    raise UserError(f"{classes} classes", f"there are {DICTIONARIES[-1][0]} ArUco markers at most", "take qr")


def _aruco(cv2: object, number: int, classes: int) -> np.ndarray:
    """(6, 6) in {0, 1}: 4 x 4 cells in a black border."""
    return cv2.aruco.generateImageMarker(dictionary(cv2, classes), number, 6) // 255  # type: ignore[attr-defined]


def _qr(cv2: object, number: int) -> np.ndarray:
    """(21, 21) or a little more, without its white border."""
    code = cv2.QRCodeEncoder.create().encode(str(number))  # type: ignore[attr-defined]
    rows, columns = ((code < 128).any(axis).nonzero()[0] for axis in (1, 0))
    return (code[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > 127).astype(np.uint8)
