"""Bringing pictures to one size: cropped for a classifier, stretched together with its mask for a segmenter."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vallum.data.data import BrokenImageError
from vallum.data.decoding import Planes

_WIDEST = 2**27  # pixels that a picture may have between resizing and cropping


def crop_to(planes: Planes, size: tuple[int, int], where: str) -> Planes:
    """Resized (bicubic, antialiased) until it just covers `size`, then cropped around its centre."""
    height, width = size
    wide, high = planes[0].size
    # Cover with the nearer side; the other is cut to a whole number as torchvision cuts it, so that results agree.
    covering = (int(height * wide / high), height)
    if covering[0] < width:
        covering = (width, int(width * high / wide))
    if covering[0] * covering[1] > _WIDEST:
        raise BrokenImageError(
            f"{where} is {high} x {wide}",
            f"it is too narrow to fill {height} x {width}",
            "crop it before, or leave it out",
        )
    left, top = round((covering[0] - width) / 2), round((covering[1] - height) / 2)
    box = (left, top, left + width, top + height)
    return [plane.resize(covering, Image.Resampling.BICUBIC).crop(box) for plane in planes]


def stretch_to(planes: Planes, size: tuple[int, int]) -> Planes:
    """Resized (bilinear, antialiased) to exactly `size`."""
    return [plane.resize((size[1], size[0]), Image.Resampling.BILINEAR) for plane in planes]


def stretch_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The class at each new pixel's centre.

    >>> stretch_mask(np.array([[1, 2], [3, 255]]), (2, 4))
    array([[  1,   1,   2,   2],
           [  3,   3, 255, 255]])
    """
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]
