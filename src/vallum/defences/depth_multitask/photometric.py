"""How well one frame explains another: the losses of Godard et al. 2019 (arXiv 1806.01260), from their formulas."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    return _parts(image, target if isinstance(target, Target) else Target.of(target))[0]


def _parts(image: Tensor, target: Target) -> tuple[Tensor, ...]:
    """The similarity a b / (c d), the image's local means, a, b, c and d."""
    mean = local_mean(image)
    both, squares = mean * target.mean, mean * mean
    a, b = 2 * both + _C1, 2 * (local_mean(image * target.image) - both) + _C2
    c, d = squares + target.mean * target.mean + _C1, local_mean(image * image) - squares + target.variance + _C2
    return a * b / (c * d), mean, a, b, c, d


class _Difference(torch.autograd.Function):
    """`difference` with its gradient by the image written out: half the operations of what autograd would record."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Target) -> Tensor:
        similar, *parts = _parts(image, target)
        ctx.save_for_backward(image, similar, *parts)
        ctx.target = target
        structure = ((1 - similar) / 2).clamp(0, 1).mean(1)
        return STRUCTURE * structure + (1 - STRUCTURE) * (image - target.image).abs().mean(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        image, similar, mean, a, b, c, d = ctx.saved_tensors
        target: Target = ctx.target
        each = gradients[0][:, None] / image.shape[1]
        along = similar * each * (-STRUCTURE / 2) * (similar.abs() <= 1)  # where the clamp lets it pass
        by_a, by_b, by_c, by_d = along / a, along / b, along / c, along / d
        by_mean = target.mean * (by_a - by_b) + mean * (by_d - by_c)
        back = _spread(torch.cat([by_mean, by_b, by_d], 1)).chunk(3, 1)
        found = 2 * (back[0] + target.image * back[1] - image * back[2])
        return found + (image - target.image).sign() * (each * (1 - STRUCTURE)), None


def _spread(values: Tensor) -> Tensor:
    """The transpose of `local_mean`: what each pixel gives to the means that it is part of."""
    wide = F.pad(values, (2, 2, 2, 2))
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    whole = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) * (1 / 9)  # a pixel larger all around
    whole[..., 2, :] += whole[..., 0, :]  # and what lies there is mirrored
    whole[..., -3, :] += whole[..., -1, :]
    whole[..., 2] += whole[..., 0]
    whole[..., -3] += whole[..., -1]
    return whole[..., 1:-1, 1:-1]


def difference(image: Tensor, target: Target | Tensor) -> Tensor:
    """(N, H, W): 0.85 of structural dissimilarity and 0.15 of the absolute difference, means over the channels.

    The gradient is the image's alone.

    >>> image = torch.rand(1, 3, 4, 4)
    >>> float(difference(image, image).max()) < 1e-6
    True
    """
    return _Difference.apply(image, target if isinstance(target, Target) else Target.of(target))


def best_explained(target: Target, warped: Sequence[Tensor], still: Tensor | None) -> tuple[Tensor, Tensor]:
    """The error of whichever frame explains each pixel best, (N, H, W), and where that is a warped one.

    What is hidden in one frame is seen in another, hence the least error. `still` is the least error of the frames as
    they are: where it wins, the pixel moves along with the camera or nothing moves, and no depth follows from it.
    """
    errors = functools.reduce(torch.minimum, [difference(image, target) for image in warped])
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
