"""How well one frame explains another: the losses of Godard et al. 2019 (arXiv 1806.01260), from their formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2
STRUCTURE = 0.85  # of the error; the rest is the plain difference


def local_mean(images: Tensor) -> Tensor:
    """Over the 3x3 pixels around each, beyond the edge those within it mirrored.

    Six additions: both ways several times as fast on a processor as pooling is.
    """
    wide = F.pad(images, (1, 1, 1, 1), "reflect")
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) * (1 / 9)


@dataclass(frozen=True)
class Target:
    """An image that several others are compared with, and what of it is needed each time."""

    image: Tensor  # (N, C, H, W)
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, image: Tensor) -> Target:
        mean = local_mean(image)
        return cls(image, mean, local_mean(image * image) - mean * mean)


def ssim(image: Tensor, target: Target | Tensor) -> Tensor:
    """Structural similarity in windows of 3x3 pixels, (N, C, H, W) in [-1, 1]."""
    target = target if isinstance(target, Target) else Target.of(target)
    mean = local_mean(image)
    both, squares = mean * target.mean, mean * mean
    shared = local_mean(image * target.image) - both
    variance = local_mean(image * image) - squares
    above = (2 * both + _C1) * (2 * shared + _C2)
    return above / ((squares + target.mean * target.mean + _C1) * (variance + target.variance + _C2))


def difference(image: Tensor, target: Target | Tensor) -> Tensor:
    """(N, H, W): 0.85 of structural dissimilarity and 0.15 of the absolute difference, means over the channels.

    >>> image = torch.rand(1, 3, 4, 4)
    >>> float(difference(image, image).max()) < 1e-6
    True
    """
    target = target if isinstance(target, Target) else Target.of(target)
    structure = ((1 - ssim(image, target)) / 2).clamp(0, 1).mean(1)
    return STRUCTURE * structure + (1 - STRUCTURE) * (image - target.image).abs().mean(1)


def best_explained(target: Target, warped: Sequence[Tensor], still: Tensor | None) -> tuple[Tensor, Tensor]:
    """The error of whichever frame explains each pixel best, (N, H, W), and where that is a warped one.

    What is hidden in one frame is seen in another, hence the least error. `still` is the least error of the frames as
    they are: where it wins, the pixel moves along with the camera or nothing moves, and no depth follows from it.
    """
    errors = torch.stack([difference(image, target) for image in warped]).amin(0)
    if still is None:
        return errors, torch.ones_like(errors, dtype=torch.bool)
    return torch.minimum(errors, still), errors < still


def smoothness(inverse_depth: Tensor, image: Tensor) -> Tensor:
    """(N,): how much inverse depth (N, H, W), in units of its mean, changes where the image (N, C, H, W) does not."""
    relative = inverse_depth / inverse_depth.mean((1, 2), keepdim=True)
    total: Tensor = torch.zeros((), device=image.device)
    for axis in (-1, -2):
        steps = relative.diff(dim=axis).abs()
        edges = image.diff(dim=axis).abs().mean(1)
        total = total + (steps * (-edges).exp()).mean((1, 2))
    return total
