"""From whatever holds a picture or a mask (a file's bytes, a Pillow image, an array, a tensor) to planes of numbers.

A plane is a Pillow image: one "RGB" or "L" for 8 bits, or an "F" in [0, 1] for each channel of anything else. Every
picture takes the same road from there, so that an 8-bit picture is resized exactly as the usual loaders resize it.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vallum.data.data import BrokenImageError
from vallum.errors import UserError, a
from vallum.images import check_images

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
FILMS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")  # no format whose reader runs another program
Planes = list[Image.Image]


def open_picture(content: bytes, where: str) -> Image.Image:
    """The decoded file, upright as its EXIF orientation says."""
    try:
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenImageError(
            f"{where} unpacks to too many pixels",
            f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,}",
            "shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it",
        ) from None
    except UnidentifiedImageError:
        raise _undecodable(where, "it is none of these") from None
    except Exception as error:  # hostile bytes make decoders raise nearly anything
        raise _undecodable(where, (str(error).splitlines() or [type(error).__name__])[0]) from None
    with contextlib.suppress(Exception):  # a picture whose EXIF is garbage is still a picture
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def as_planes(picture: Any, where: str) -> Planes:
    """A picture in grey or colour; an array's channels as they are. Transparency is dropped, colours kept.

    torchvision's and timm's loaders drop it too: a model sees the picture that it saw in training.
    """
    if isinstance(picture, bytes):
        picture = open_picture(picture, where)
    if isinstance(picture, Image.Image):
        return _planes_of_picture(picture, where)
    if isinstance(picture, Tensor):
        picture = picture.detach().cpu()
        array = picture.float().numpy() if picture.dtype == torch.bfloat16 else picture.numpy()
        return _planes_of_array(array, (0, 2), where)
    if isinstance(picture, np.ndarray):
        return _planes_of_array(picture, (2, 0), where)
    raise BrokenImageError(f"{where} is {a(picture)}", "a Pillow image, an array or a tensor", "mend the data set")


def as_tensor(planes: Planes, channels: int | None) -> Tensor:
    """(C, H, W) float32 in [0, 1]; with `channels`, grey is repeated, and colour weighed into grey."""
    array = np.concatenate([np.atleast_3d(np.asarray(plane)) for plane in planes], 2)  # (H, W, C)
    image = torch.from_numpy(array).permute(2, 0, 1).contiguous()  # (C, H, W)
    image = image.float() / 255 if image.dtype == torch.uint8 else image.clamp(0, 1)  # bicubic overshoots
    return image if channels is None else in_channels(image, channels)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Images (..., C, H, W) with so many channels: grey is repeated, colour weighed into grey; no other is changed.

    >>> in_channels(torch.ones(5, 1, 2, 2), 3).shape, in_channels(torch.ones(5, 3, 2, 2), 1).shape
    (torch.Size([5, 3, 2, 2]), torch.Size([5, 1, 2, 2]))
    """
    if channels == 3 and images.shape[-3] == 1:
        return images.repeat(*(1,) * (images.ndim - 3), 3, 1, 1)
    if images.shape[-3] > channels:
        images = images[..., :3, :, :]  # a fourth is transparency
        if channels == 1:
            red, green, blue = images.split(1, -3)
            return 0.299 * red + 0.587 * green + 0.114 * blue
    return images


def as_mask(mask: Any, where: str) -> np.ndarray:
    """The class of each pixel, (H, W) int64."""
    if isinstance(mask, bytes):
        mask = open_picture(mask, where)
    if isinstance(mask, Image.Image):
        if mask.format == "JPEG":
            raise BrokenImageError(f"{where} is a JPEG", "JPEG changes class numbers", "save masks as PNG")
        if mask.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
            raise BrokenImageError(
                f"{where} is a mask in colours (mode {mask.mode})",
                "one channel whose value is the class, 255 where it is ignored",
                "turn colours into class numbers first",
            )
    numbers = mask.detach().cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if numbers.ndim == 3 and numbers.shape[0] == 1:
        numbers = numbers[0]
    if numbers.ndim != 2 or numbers.dtype.kind not in "iub":
        raise BrokenImageError(
            f"{where} is a mask of shape {numbers.shape} and type {numbers.dtype}",
            "whole numbers, (H, W)",
            "give each pixel the number of its class",
        )
    return numbers.astype(np.int64)


def as_mask_of_colours(content: bytes, colours: Mapping[tuple[int, int, int], int], where: str) -> np.ndarray:
    """The class that each pixel's colour stands for, (H, W) int64."""
    picture = np.asarray(open_picture(content, where).convert("RGB")).astype(np.int64)
    codes = (picture[..., 0] * 256 + picture[..., 1]) * 256 + picture[..., 2]
    known = np.array(sorted(((red * 256 + green) * 256 + blue, value) for (red, green, blue), value in colours.items()))
    place = np.minimum(np.searchsorted(known[:, 0], codes), len(known) - 1)
    strange = known[place, 0] != codes
    if strange.any():
        raise BrokenImageError(
            f"{where} has the colour {tuple(picture[strange][0].tolist())} at {int(strange.sum())} pixels",
            f"one of {len(colours)} colours, each of which stands for a class",
            "take the mask as it was published; JPEG and resizing change colours",
        )
    return known[place, 1]


def _planes_of_picture(picture: Image.Image, where: str) -> Planes:
    if picture.mode.startswith("I") or picture.mode == "F":
        numbers = np.asarray(picture)
        if numbers.size and (numbers.min() < 0 or numbers.max() > 65535):
            raise BrokenImageError(
                f"{where} holds values from {numbers.min()} to {numbers.max()}",
                "8 or 16 bits for each channel, or floats in [0, 1]",
                "scale it before",
            )
        return _planes_of_array(numbers if picture.mode == "F" else numbers.astype(np.uint16), (2, 0), where)
    if picture.mode in ("1", "L", "LA", "La"):
        return [picture.convert("L")]
    return [picture.convert("RGB")]


def _planes_of_array(array: np.ndarray, axes: tuple[int, int], where: str) -> Planes:
    """`axes`: where to look for the channels, and where else if they are not there."""
    channels = array[..., None] if array.ndim == 2 else array
    plausible = [
        axis for counts in ((1, 3), (4,)) for axis in axes if channels.ndim == 3 and channels.shape[axis] in counts
    ]
    if not plausible or 0 in channels.shape:
        raise BrokenImageError(
            f"{where} has shape {array.shape}",
            "an array is (H, W, C), a tensor (C, H, W), with 1, 3 or 4 channels",
            "move its axes",
        )
    channels = np.moveaxis(channels, plausible[0] if array.ndim == 3 else 2, 2)  # (H, W, C)
    if channels.dtype == np.uint16:
        channels = channels.astype(np.float32) / 65535
    if channels.dtype.kind == "f":
        try:
            check_images(torch.from_numpy(np.moveaxis(channels, 2, 0).astype(np.float32))[None], where)
        except UserError as error:
            raise BrokenImageError(*error.args) from None
        channels = channels.astype(np.float32)
    elif channels.dtype != np.uint8:
        raise BrokenImageError(
            f"{where} is {channels.dtype}", "uint8 in 0..255, or floats in [0, 1]", "convert it, as in images / 255"
        )
    if channels.dtype == np.uint8 and channels.shape[2] == 3:
        return [Image.fromarray(np.ascontiguousarray(channels))]
    return [Image.fromarray(np.ascontiguousarray(channels[..., c])) for c in range(channels.shape[2])]


def _undecodable(where: str, reason: str) -> BrokenImageError:
    return BrokenImageError(
        f"{where} cannot be decoded ({reason})",
        "a whole PNG, JPEG, WebP, BMP, PPM or TIFF file",
        "replace it, delete it, or go on without it: on_error=skip",
    )
