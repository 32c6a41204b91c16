"""Linear filters on batches: separable ones as two products with narrow matrices, large kernels by Fourier."""

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


def band(length: int, weights: tuple[float, ...], border: Border) -> np.ndarray:
    """(length, length) what an odd kernel does to an axis; the border is folded in."""
    reach = len(weights) // 2
    matrix = np.zeros((length, length))
    rows = np.arange(length)
    for place, weight in enumerate(weights):
        np.add.at(matrix, (rows, inside(rows + place - reach, length, border)), weight)
    return matrix


Strips = tuple[tuple[slice, Tensor], ...]


def strips(matrix: np.ndarray, like: Tensor, size: int = 32) -> Strips:
    """A matrix that is zero but near its diagonal, in strips of rows: the columns that each needs, and those."""
    cut = []
    for start in range(0, len(matrix), size):
        rows = matrix[start : start + size]
        used = np.flatnonzero(rows.any(0))
        need = slice(int(used[0]), int(used[-1]) + 1)
        cut.append((need, torch.from_numpy(rows[:, need]).to(like)))
    return tuple(cut)


def across(planes: Tensor, parts: Strips) -> Tensor:
    """Planes (P, H, W) whose rows are multiplied by the matrix in `parts`."""
    lines = planes.reshape(planes.shape[0] * planes.shape[1], planes.shape[2])
    products = torch.cat([lines[:, need] @ rows.T for need, rows in parts], 1)
    return products.view(*planes.shape[:2], products.shape[1])


def down(planes: Tensor, parts: Strips) -> Tensor:
    """Planes (P, H, W) whose columns are multiplied by the matrix in `parts`."""
    return torch.cat([torch.bmm(rows.expand(len(planes), -1, -1), planes[:, need]) for need, rows in parts], 1)


@lru_cache(maxsize=64)
def gaussian_weights(sigma: float, reach: int) -> tuple[float, ...]:
    """A sampled Gaussian of 2 * reach + 1 taps that sum to one."""
    if sigma <= 0 or reach == 0:
        return (1.0,)
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return tuple(taps / taps.sum())


def separable(images: Tensor, weights: tuple[float, ...], border: Border) -> Tensor:
    """The same odd kernel along rows and columns of (N, C, H, W)."""
    height, width = images.shape[2:]
    place = images.dtype, images.device
    planes = across(images.flatten(0, 1), _kernel_strips(width, weights, border, *place))
    return down(planes, _kernel_strips(height, weights, border, *place)).view_as(images)


@lru_cache(maxsize=64)
def _kernel_strips(
    length: int, weights: tuple[float, ...], border: Border, dtype: torch.dtype, device: torch.device
) -> Strips:
    return strips(band(length, weights, border), torch.empty(0, dtype=dtype, device=device))


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
    size = [next_fast_len(length) for length in wide.shape[2:]]
    # Two planes of an image at a time, as one of complex numbers, take less time than each on its own. Planes of two
    # images would take still less, but then what one is rounded to depends on the other.
    planes = wide.shape[1]
    half = (planes + 1) // 2
    pairs = torch.complex(wide[:, :half], F.pad(wide[:, half:], (0, 0, 0, 0, 0, planes % 2)))
    taps = torch.from_numpy(kernel[::-1, ::-1].copy()).to(images)
    spectrum = torch.fft.fft2(pairs, s=size) * torch.fft.fft2(taps, s=size)
    filtered = torch.fft.ifft2(spectrum)[..., 2 * down : 2 * down + height, 2 * across : 2 * across + width]
    return torch.cat([filtered.real, filtered.imag], 1)[:, :planes]


@lru_cache(maxsize=64)
def disc(radius: float, softness: float) -> np.ndarray:
    """The image of a point out of focus: a disc, its edge softened by a Gaussian of 3 or 5 taps."""
    reach = 8 if radius <= 8 else int(np.ceil(radius))
    squares = np.arange(-reach, reach + 1) ** 2
    flat = (squares[:, None] + squares <= radius**2).astype(np.float64)
    soft = band(len(flat), gaussian_weights(softness, 1 if radius <= 8 else 2), "mirror")
    return soft @ (flat / flat.sum()) @ soft.T
