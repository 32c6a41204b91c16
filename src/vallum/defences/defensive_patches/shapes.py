"""Which pixels of an image a patch covers: a ring around the object, a square, tabs in the corners, any mask.

A length of at most 1 is a share of the image's shorter side, a longer one is in pixels. Shapes lie in the middle of the
image, on whole pixels, so that an area is exact: a pixel is covered or it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vallum.errors import UserError
from vallum.specs import Registry, parameter


class Shape:
    """Subclasses are frozen dataclasses, registered in SHAPES, that say which pixels are covered."""

    @property
    def spec(self) -> str:
        return SHAPES.spec(self)

    def mask(self, height: int, width: int) -> Tensor:
        """(H, W) in {0, 1}: 1 where the patch is; neither empty nor, for a shape with a hole, without one."""
        raise NotImplementedError


SHAPES: Registry[Shape] = Registry("shape")


def shape(spec: str | Shape) -> Shape:
    """The shape that a spec names; a shape itself comes back as it is.

    >>> int(shape("ring:outer=30,inner=26").mask(32, 32).sum())
    224
    """
    return SHAPES.parse(spec) if isinstance(spec, str) else spec


@SHAPES.register("ring")
@dataclass(frozen=True)
class Ring(Shape):
    """A square frame around the object: by default two of 32 pixels wide, one pixel in from the border.

    >>> Ring().mask(6, 6).int().tolist()[:3]
    [[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1]]
    """

    outer: float = parameter("side of the frame", 30 / 32)
    inner: float = parameter("side of its hole, where the object is", 26 / 32)

    def mask(self, height: int, width: int) -> Tensor:
        outer, inner = (pixels(side, height, width) for side in (self.outer, self.inner))
        # With the same parity the hole is in the middle of the frame; an even image wants both even.
        inner -= (outer - inner) % 2
        if not 0 < inner < outer:
            raise UserError(
                f"{self.spec} on {height} by {width} pixels is a frame of {outer} around a hole of {inner}",
                "the hole must be smaller than the frame by two pixels, and hold one",
                "give larger images, or other sides",
            )
        return centred(outer, height, width) - centred(inner, height, width, like=outer)


@SHAPES.register("square")
@dataclass(frozen=True)
class Square(Shape):
    """A square in the middle, over the object itself; its side alone decides how much of it is hidden."""

    side: float = parameter("of the square", 10 / 32)

    def mask(self, height: int, width: int) -> Tensor:
        return centred(pixels(self.side, height, width), height, width)


@SHAPES.register("corners")
@dataclass(frozen=True)
class Corners(Shape):
    """Four tabs, one in each corner.

    >>> Corners(side=1 / 3, inset=0.0).mask(3, 3).int().tolist()
    [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    """

    side: float = parameter("of each tab", 7 / 32)
    inset: float = parameter("how far in from the border they are", 1 / 32)

    def mask(self, height: int, width: int) -> Tensor:
        side, inset = pixels(self.side, height, width), pixels(self.inset, height, width, least=0)
        if 2 * (side + inset) > min(height, width):
            raise UserError(f"{self.spec} on {height} by {width} pixels", "its tabs overlap", "give a smaller side")
        rows, columns = (_near_the_ends(length, side, inset) for length in (height, width))
        return (rows[:, None] & columns).float()


@SHAPES.register("mask")
@dataclass(frozen=True)
class MaskFile(Shape):
    """Whatever is white in a picture, stretched to the image's size."""

    file: str = parameter("a picture, black where there is no patch")

    def mask(self, height: int, width: int) -> Tensor:
        path = Path(self.file).expanduser()
        try:
            with Image.open(path) as picture:
                grey = picture.convert("L").resize((width, height), Image.Resampling.BOX)
        except OSError as error:
            raise UserError(f"{path} cannot be read", str(error), "name a picture of the mask") from error
        found = torch.from_numpy(np.array(grey)) > 127
        if not bool(found.any()):
            raise UserError(f"{path} is black all over", "a mask is white where the patch is")
        return found.float()


def pixels(length: float, height: int, width: int, least: int = 1) -> int:
    """A length in whole pixels: a share of the shorter side up to 1, pixels above."""
    shorter = min(height, width)
    found = round(length * shorter if length <= 1 else length)
    if not least <= found <= shorter:
        raise UserError(
            f"a length of {length:g} is {found} pixels of an image of {height} by {width}", f"{least} to {shorter}"
        )
    return found


def centred(side: int, height: int, width: int, like: int | None = None) -> Tensor:
    """(H, W): a square in the middle; `like`: in the middle of a square of that side, where halves are rounded."""
    outer = like or side
    top, left = ((length - outer) // 2 + (outer - side) // 2 for length in (height, width))
    mask = torch.zeros(height, width)
    mask[top : top + side, left : left + side] = 1
    return mask


def _near_the_ends(length: int, side: int, inset: int) -> Tensor:
    place = torch.arange(length)
    depth = torch.minimum(place, length - 1 - place)
    return (depth >= inset) & (depth < inset + side)
