"""Eight bits per channel, with a gradient that passes straight through."""

from __future__ import annotations

from torch import Tensor

from vallum.threats.corruptions.base import straight_through


def rounded(values: Tensor) -> Tensor:
    """The nearest whole numbers, halves upwards."""
    return straight_through((values.detach() + 0.5).floor_(), values)


def quantised(images: Tensor) -> Tensor:
    """Images on the grid of 0 .. 255, both ends being 0 and 1."""
    return rounded(images * 255) / 255


def truncated(images: Tensor) -> Tensor:
    """As `quantised`, but towards zero, as a cast to bytes does."""
    # A value that is whole but for rounding error belongs to its own number, not to the one below.
    levels = images * 255
    return straight_through((levels.detach() + 1e-3).floor_(), levels) / 255
