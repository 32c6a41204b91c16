"""Linear filters on batches: separable ones as two matrix products, large kernels by Fourier, paths by shifted sums."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

# What lies beyond the edge of "abcd": nearest "aaa|abcd|ddd", reflect "cba|abcd|dcb", mirror "dcb|abcd|cba".
Border = Literal["nearest", "reflect", "mirror"]


def inside(places: np.ndarray, length: int, border: Border) -> np.ndarray:
    """Which of the `length` pixels stands at each of `places`, some of which lie beyond the edges."""
    if border == "nearest" or length == 1:
        return places.clip(0, length - 1)
    period = 2 * length - (2 if border == "mirror" else 0)
    folded = places % period
    return np.minimum(folded, period - folded - (0 if border == "mirror" else 1))


def padded(images: Tensor, above: int, below: int, left: int, right: int, border: Border) -> Tensor:
    """Also wider than the image itself, which torch's own padding refuses."""
    height, width = images.shape[2:]
    if max(above, below) < height and max(left, right) < width and border != "reflect":
        return F.pad(images, (left, right, above, below), "replicate" if border == "nearest" else "reflect")
    rows = torch.from_numpy(inside(np.arange(-above, height + below), height, border)).to(images.device)
    columns = torch.from_numpy(inside(np.arange(-left, width + right), width, border)).to(images.device)
    return images.index_select(2, rows).index_select(3, columns)


@lru_cache(maxsize=64)
def _band(length: int, weights: tuple[float, ...], border: Border) -> np.ndarray:
    reach = len(weights) // 2
    matrix = np.zeros((length, length))
    rows = np.arange(length)
    for place, weight in enumerate(weights):
        np.add.at(matrix, (rows, inside(rows + place - reach, length, border)), weight)
    return matrix


@lru_cache(maxsize=64)
def gaussian_weights(sigma: float, reach: int) -> tuple[float, ...]:
    """A sampled Gaussian of 2 * reach + 1 taps that sum to one."""
    if sigma <= 0 or reach == 0:
        return (1.0,)
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return tuple(taps / taps.sum())


def separable(images: Tensor, weights: tuple[float, ...], border: Border) -> Tensor:
    """The same odd kernel along rows and columns of (N, C, H, W); the border is folded into the two matrices."""
    height, width = images.shape[-2:]
    across = torch.from_numpy(_band(width, weights, border)).to(images)  # (W, W)
    down = torch.from_numpy(_band(height, weights, border)).to(images)  # (H, H)
    planes, reach = images.reshape(-1, height, width), len(weights) // 2
    lines = planes.reshape(-1, width)
    wide = [lines[:, need] @ across[some, need].T for some, need in _strips(width, reach)]
    planes = torch.cat(wide, 1).view_as(planes)
    tall = [down[some, need] @ planes[:, need] for some, need in _strips(height, reach)]
    return torch.cat(tall, 1).view_as(images)


def _strips(length: int, reach: int) -> list[tuple[slice, slice]]:
    """Strips of an axis, and what each needs of it under a kernel of this reach: far from it the matrices are zero."""
    size = max(32, 2 * reach)  # what is folded in at an edge stays in that edge's strip
    ends = [*range(size, length - size + 1, size), length]
    starts = [0, *ends[:-1]]
    return [
        (slice(start, end), slice(max(0, start - reach), min(length, end + reach)))
        for start, end in zip(starts, ends, strict=True)
    ]


def gaussian_blur(images: Tensor, sigma: float, border: Border = "nearest", truncate: float = 4.0) -> Tensor:
    """

    >>> gaussian_blur(torch.ones(1, 1, 5, 5), 2.0).sum()
    tensor(25.)
    """
    return separable(images, gaussian_weights(sigma, int(truncate * sigma + 0.5)), border)


def box_blur(images: Tensor, size: int, border: Border = "mirror") -> Tensor:
    return separable(images, (1 / size,) * size, border)


def correlate(images: Tensor, kernel: np.ndarray, border: Border = "mirror") -> Tensor:
    """Correlation with an odd kernel (k, l), by way of Fourier: its cost hardly depends on the kernel's size."""
    down, across = kernel.shape[0] // 2, kernel.shape[1] // 2
    height, width = images.shape[2:]
    wide = padded(images, down, down, across, across, border)
    size = [next_fast_len(length, real=True) for length in wide.shape[2:]]
    taps = torch.from_numpy(kernel).to(images)
    spectrum = torch.fft.rfft2(wide, s=size) * torch.fft.rfft2(taps, s=size).conj()
    return torch.fft.irfft2(spectrum, s=size)[..., :height, :width]


def disc(radius: float, softness: float) -> np.ndarray:
    """The image of a point out of focus: a disc, its edge softened by a Gaussian of 3 or 5 taps."""
    reach = 8 if radius <= 8 else int(np.ceil(radius))
    squares = np.arange(-reach, reach + 1) ** 2
    flat = (squares[:, None] + squares <= radius**2).astype(np.float64)
    soft = _band(len(flat), gaussian_weights(softness, 1 if radius <= 8 else 2), "mirror")
    return soft @ (flat / flat.sum()) @ soft.T
