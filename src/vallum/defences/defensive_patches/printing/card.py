"""Where everything lies on a printed card, in millimetres.

Places count from the upper left corner of the image that the patches were made for: a patch lies in it as it does in an
image, and the four markers lie outside of it, so that a model which sees the rectified image never sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.printing import markers
from vallum.defences.defensive_patches.printing.drawing import (
    WHITE,
    Box,
    Item,
    Line,
    Picture,
    Rectangle,
    Text,
    Window,
    outline,
    runs,
    scale_bar,
)  # fmt: skip
from vallum.defences.defensive_patches.printing.lengths import said
from vallum.errors import UserError, printable

MARK, AWAY = 5.0, 2.0  # crop marks are so long, and end so far from the card
MARKER = 1 / 8  # a marker's side, in widths of the image


@dataclass(frozen=True, eq=False)
class Card:
    """What the patches of a set have in common when they are printed so that the object is `object_width` mm wide.

    >>> import torch
    >>> from vallum.defences.defensive_patches import PatchSet, Ring
    >>> ring = PatchSet(torch.rand(2, 3, 32, 32), Ring(30, 26).mask(32, 32), ("stop", "yield"), image_size=(32, 32))
    >>> card = Card.of(ring, object_width=600)
    >>> [round(length, 2) for length in (card.pixel, card.patch[2] - card.patch[0])]
    [23.08, 692.31]
    """

    patches: PatchSet
    object_width: float
    marker: float  # the side of a marker; 0: none, and the card ends where the patch does

    @classmethod
    def of(cls, patches: PatchSet, object_width: float, marker: float = MARKER, fiducials: bool = True) -> Card:
        if not 0 < object_width < 1e6:
            raise UserError(f"an object {object_width:g} mm wide", "its width in millimetres", "write 600mm")
        if not 0 < marker <= 1:
            raise UserError(f"markers of {marker:g} widths of the image", "0 to 1, such as 0.125")
        card = cls(patches, object_width, 0.0)
        return cls(patches, object_width, marker * min(card.image[2:])) if fiducials else card

    @cached_property
    def across(self) -> int:
        """How many of the patch's pixels the object is wide: it fills the hole, or the image where there is none."""
        (_, (left, right)) = self.hole or (0, (0, self.patches.image_size[1] * self.patches.fineness))
        return right - left

    @cached_property
    def hole(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """The rows and columns of the mask that are free through its middle, each from and to; None: it is covered."""
        rows, columns = (
            [run for run in runs(~line) if run[0] <= len(line) // 2 < run[1]]
            for line in (self.mask[:, self.mask.shape[1] // 2], self.mask[self.mask.shape[0] // 2])
        )
        return (rows[0], columns[0]) if rows and columns else None

    @cached_property
    def pixel(self) -> float:
        """The side of one of the patch's pixels."""
        return self.object_width / self.across

    @cached_property
    def image(self) -> Rectangle:
        side = self.pixel * self.patches.fineness
        return 0.0, 0.0, self.patches.image_size[1] * side, self.patches.image_size[0] * side

    @cached_property
    def canvas(self) -> Rectangle:
        """The rectangle of the mask, in the middle of the image."""
        (tall, wide), (_, _, right, bottom) = self.patches.mask.shape, self.image
        left, top = (right - wide * self.pixel) / 2, (bottom - tall * self.pixel) / 2
        return left, top, left + wide * self.pixel, top + tall * self.pixel

    @cached_property
    def mask(self) -> np.ndarray:
        return self.patches.mask.cpu().numpy() > 0

    @cached_property
    def patch(self) -> Rectangle:
        """The smallest rectangle around what is printed in colour."""
        rows, columns = ((np.flatnonzero(self.mask.any(axis)) * self.pixel).tolist() for axis in (1, 0))
        left, top = self.canvas[:2]
        return left + columns[0], top + rows[0], left + columns[-1] + self.pixel, top + rows[-1] + self.pixel

    @cached_property
    def edge(self) -> Rectangle:
        """Where the card is trimmed."""
        if not self.marker:
            return self.patch
        out = self.marker * (1 + 2 * markers.QUIET / markers.CELLS)
        return self.image[0] - out, self.image[1] - out, self.image[2] + out, self.image[3] + out

    @cached_property
    def strip(self) -> Rectangle:
        """Where the name and the scale bar are: between the lower markers, or below a card without them."""
        if self.marker:
            gap = self.marker * markers.QUIET / markers.CELLS
            return self.image[0], self.image[3] + gap, self.image[2], self.image[3] + gap + self.marker
        left, _, right, bottom = self.edge
        tall = min(max((right - left) / 8, 6), 20)
        return left, bottom + AWAY + MARK, right, bottom + AWAY + MARK + tall

    @cached_property
    def block(self) -> Rectangle:
        """All that is printed: with crop marks, and with a strip that is trimmed off."""
        out, (left, top, right, bottom) = AWAY + MARK, self.edge
        return left - out, top - out, right + out, max(bottom + out, self.strip[3])

    @cached_property
    def window(self) -> np.ndarray:
        """(h, w) bool, over the canvas: what is cut out, so that the object shows."""
        if not self.hole:
            return ~self.mask
        inside = np.zeros_like(self.mask)
        (top, bottom), (left, right) = self.hole
        inside[top:bottom, left:right] = True
        return inside & ~self.mask

    def marker_squares(self) -> list[tuple[float, float]]:
        return markers.squares(*self.image, self.marker) if self.marker else []

    def drawing(self, which: int, number: int, name: str, trimmed: bool = False) -> list[Item]:
        """The card of one patch: `number` is what its markers say; `trimmed`: only what remains when it is cut."""
        left, top, right, bottom = self.edge
        items: list[Item] = [Box(left, top, right - left, bottom - top, WHITE), self._picture(which)]
        x, y, _, _ = self.canvas
        if trimmed:
            high, wide = self.mask.shape
            items.append(Window(x, y, wide * self.pixel, high * self.pixel, self.window))
        else:
            items += [*outline(self.window, x, y, self.pixel), *crop_marks(self.edge)]
        for corner, (mx, my) in enumerate(self.marker_squares()):
            items += markers.drawn(number, corner, mx, my, self.marker)
        if self.marker or not trimmed:
            items += self._label(which, name)
        return items

    def _picture(self, which: int) -> Picture:
        picture = np.asarray(self.patches.picture(which))  # (h, w, 4)
        x, y, right, bottom = self.canvas
        return Picture(x, y, right - x, bottom - y, picture[..., :3], self.mask)

    def _label(self, which: int, name: str) -> list[Item]:
        left, top, right, bottom = self.strip
        tall, wide = bottom - top, right - left
        facts = f"patch {which} · object {said(self.object_width)} wide · print at 100 %"
        half = 0.56 * wide
        return [
            Text(left, top + 0.45 * tall, 0.42 * tall, printable(name), half, bold=True),
            Text(left, top + 0.87 * tall, 0.26 * tall, facts, half),
            *scale_bar(right, top + 0.45 * tall, 0.4 * wide, tall),
        ]


def crop_marks(edge: Rectangle) -> list[Item]:
    left, top, right, bottom = edge
    marks: list[Item] = []
    for x, out_x in ((left, -1), (right, 1)):
        for y, out_y in ((top, -1), (bottom, 1)):
            marks.append(Line((x + out_x * AWAY, y), (x + out_x * (AWAY + MARK), y), 0.15))
            marks.append(Line((x, y + out_y * AWAY), (x, y + out_y * (AWAY + MARK)), 0.15))
    return marks
