"""JPEG, baseline with halved colour, as batched tensors: what the common encoder and decoder do, without the file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import numpy as np
import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.base import THREATS
from vallum.threats.corruptions.base import Corruption, Strength, Strengths, straight_through
from vallum.threats.corruptions.filters import Strips, across, down, padded, strips
from vallum.threats.corruptions.quantise import rounded

# Annex K of the standard (ITU-T T.81), for quality 50.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMINANCE = np.full((8, 8), 99)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]


def steps(table: np.ndarray, quality: int) -> np.ndarray:
    """(64,) the step to which each frequency is rounded."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((table * percent + 50) // 100).clip(1, 255).flatten()


@lru_cache(maxsize=16)
def _cosines(blocks: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 pixels, as a matrix, for so many runs of 8 side by side."""
    frequency, place = np.arange(8)[:, None], np.arange(8)
    basis = np.cos((2 * place + 1) * frequency * pi / 16) / 2
    basis[0] /= np.sqrt(2)
    return torch.from_numpy(np.kron(np.eye(blocks), basis)).to(device, dtype)


def _transformed(planes: Tensor, back: bool = False) -> Tensor:
    """Planes (P, H, W) with each 8 x 8 pixels replaced by their frequencies, in place of them; or back again."""
    count, height, width = planes.shape
    side_by_side = next(blocks for blocks in (4, 2, 1) if width % (8 * blocks) == 0)  # wider products run faster
    along, below = (_cosines(blocks, planes.dtype, planes.device) for blocks in (side_by_side, 1))
    along, below = (along, below.T) if back else (along.T, below)
    rows = (planes.reshape(-1, 8 * side_by_side) @ along).view(-1, 8, width)
    return torch.bmm(below.expand(len(rows), -1, -1), rows).view(count, height, width)


def _coded(planes: Tensor, step: np.ndarray) -> Tensor:
    """Planes (P, H, W) in 0 .. 255, sides multiples of 8, after their frequencies were rounded."""
    count, height, width = planes.shape
    sizes = torch.from_numpy(np.tile(step.reshape(8, 8), width // 8)).to(planes)  # (8, W)
    exact = _transformed(planes - 128).view(count, height // 8, 8, width)
    # Coders hold frequencies in eighths, and round halves of a step away from zero: a little more than half is more.
    shares = (exact.detach() * 8).round_().mul_((1 + 1e-6) / (8 * sizes)).round_()
    coefficients = straight_through(shares.mul_(sizes), exact).view(planes.shape)
    return rounded(_transformed(coefficients, back=True) + 128).clamp_(0, 255)


def _halved(planes: Tensor) -> Tensor:
    """Means of 2 x 2, rounded down and up in turn from column to column, so that neither way is favoured."""
    sums = planes[:, ::2] + planes[:, 1::2]
    sums = sums[..., ::2] + sums[..., 1::2]
    bias = torch.tensor([1.0, 2.0], device=planes.device, dtype=planes.dtype).repeat((sums.shape[2] + 1) // 2)
    return rounded(sums.add_(bias[: sums.shape[2]]).mul_(0.25).sub_(0.5))


@lru_cache(maxsize=16)
def _between(length: int, dtype: torch.dtype, device: torch.device) -> Strips:
    """(2 * length, length): each new pixel is three parts of the nearer old one and one of the farther."""
    new = np.arange(2 * length)
    matrix = 3.0 * (new[:, None] // 2 == np.arange(length))
    np.add.at(matrix, (new, (new // 2 + new % 2 * 2 - 1).clip(0, length - 1)), 1)
    return strips(matrix, torch.empty(0, dtype=dtype, device=device))


def _doubled(planes: Tensor) -> Tensor:
    """Twice as many rows and columns."""
    place = planes.dtype, planes.device
    sums = across(down(planes, _between(planes.shape[1], *place)), _between(planes.shape[2], *place))
    # Adding 8 or 7 sixteenths rounds halves up in one column and down in the next.
    bias = torch.tensor([0.0, -1.0], device=planes.device, dtype=planes.dtype).repeat(planes.shape[2])
    return rounded(sums.add_(bias).mul_(1 / 16))


def jpeg(images: Tensor, quality: int) -> Tensor:
    """The images after they were stored at this quality, 1 to 100, and read again; whole steps of 1/255.

    Rounding has no gradient: it is passed straight through, as if nothing had been rounded.
    """
    height, width = images.shape[2:]
    pixels = rounded(images * 255)
    if height % 16 or width % 16:
        pixels = padded(pixels, 0, -height % 16, 0, -width % 16, "nearest")
    if images.shape[1] == 1:
        return _coded(pixels[:, 0], steps(LUMINANCE, quality))[:, None, :height, :width] / 255
    red, green, blue = pixels.unbind(1)  # (N, H, W)
    luma = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114)
    colour = torch.cat([(blue - luma).mul_(1 / 1.772), (red - luma).mul_(1 / 1.402)])
    colour = _coded(_halved(rounded(colour.add_(128))), steps(CHROMINANCE, quality))
    towards_blue, towards_red = (_doubled(colour) - 128).chunk(2)
    luma = _coded(rounded(luma), steps(LUMINANCE, quality))
    to_green = (-0.344136 * towards_blue).sub_(towards_red, alpha=0.714136)
    mixed = torch.stack(
        [luma + rounded(1.402 * towards_red), luma + rounded(to_green), luma + rounded(1.772 * towards_blue)], 1
    )
    return mixed.clamp_(0, 255)[..., :height, :width] / 255


@THREATS.register("jpeg_compression", "jpeg")
@dataclass(frozen=True)
class JpegCompression(Corruption):
    """Strength: the encoder's quality."""

    strengths = Strengths(
        imagenet=[(25,), (18,), (15,), (10,), (7,)],
        tiny=[(65,), (58,), (50,), (40,), (25,)],
        cifar=[(80,), (65,), (58,), (50,), (40,)],
    )

    def alter(self, images: Tensor, draws: Draws, strength: Strength) -> Tensor:
        return jpeg(images, round(strength[0]))
