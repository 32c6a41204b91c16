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
from vallum.threats.corruptions.filters import padded
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


@lru_cache(maxsize=1)
def _cosines() -> np.ndarray:
    """(64, 64) the orthonormal two-dimensional cosine transform of a block of 8 x 8 pixels in a row."""
    frequency, place = np.arange(8)[:, None], np.arange(8)
    basis = np.cos((2 * place + 1) * frequency * pi / 16) / 2
    basis[0] /= np.sqrt(2)
    return np.kron(basis, basis)


def _coded(plane: Tensor, step: np.ndarray) -> Tensor:
    """A plane (N, 1, H, W) in 0 .. 255, sides multiples of 8, after its frequencies were rounded."""
    n, _, height, width = plane.shape
    cosines, sizes = torch.from_numpy(_cosines()).to(plane), torch.from_numpy(step).to(plane)
    blocks = (plane - 128).view(n, height // 8, 8, width // 8, 8).transpose(2, 3).reshape(-1, 64)
    exact = blocks @ cosines.T
    # Coders hold frequencies in eighths, and round halves of a step away from zero.
    share = (exact.detach() * 8).round() / (8 * sizes)
    coefficients = straight_through((share.abs() + 0.5).floor().copysign(share) * sizes, exact)
    back = (coefficients @ cosines).view(n, height // 8, width // 8, 8, 8).transpose(2, 3).reshape(plane.shape)
    return rounded(back + 128).clamp(0, 255)


def _halved(plane: Tensor) -> Tensor:
    """Means of 2 x 2, rounded down and up in turn from column to column, so that neither way is favoured."""
    sums = plane[:, :, ::2] + plane[:, :, 1::2]
    sums = sums[..., ::2] + sums[..., 1::2]
    bias = torch.tensor([1.0, 2.0], device=plane.device, dtype=plane.dtype).repeat((sums.shape[3] + 1) // 2)
    return rounded((sums + bias[: sums.shape[3]]) / 4 - 0.5)


def _doubled(plane: Tensor) -> Tensor:
    """Twice as many rows and columns, each new one three parts of the nearer and one of the farther old one."""
    wide = padded(plane, 1, 1, 1, 1, "nearest")
    middle = 3 * wide[:, :, 1:-1]
    rows = torch.stack([middle + wide[:, :, :-2], middle + wide[:, :, 2:]], 3).flatten(2, 3)
    centre = 3 * rows[..., 1:-1]
    # Adding 8 or 7 sixteenths rounds halves up in one column and down in the next.
    left = rounded((centre + rows[..., :-2] + 8) / 16 - 0.5)
    right = rounded((centre + rows[..., 2:] + 7) / 16 - 0.5)
    return torch.stack([left, right], 4).flatten(3, 4)


def jpeg(images: Tensor, quality: int) -> Tensor:
    """The images after they were stored at this quality, 1 to 100, and read again; whole steps of 1/255.

    Rounding has no gradient: it is passed straight through, as if nothing had been rounded.
    """
    height, width = images.shape[2:]
    pixels = rounded(padded(images * 255, 0, -height % 16, 0, -width % 16, "nearest")).clamp(0, 255)
    if images.shape[1] == 1:
        return _coded(pixels, steps(LUMINANCE, quality))[..., :height, :width] / 255
    red, green, blue = pixels.split(1, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    half = _halved(rounded(torch.cat([(blue - luma) / 1.772, (red - luma) / 1.402]) + 128))
    luma = _coded(rounded(luma), steps(LUMINANCE, quality))
    towards_blue, towards_red = (_doubled(_coded(half, steps(CHROMINANCE, quality))) - 128).chunk(2)
    red = luma + rounded(1.402 * towards_red)
    blue = luma + rounded(1.772 * towards_blue)
    green = luma - rounded(0.344136 * towards_blue + 0.714136 * towards_red)
    return torch.cat([red, green, blue], 1).clamp(0, 255)[..., :height, :width] / 255


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
