"""How well one frame explains another: the losses of Godard et al. 2019 (arXiv 1806.01260), from their formulas."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2
STRUCTURE = 0.85  # of the error; the rest is the plain difference


@dataclass(frozen=True)
class Target:
    """An image that several others are compared with, and what of it is needed each time."""

    image: Tensor  # (N, C, H, W)
    sums: Tensor  # over the 3x3 pixels around each
    level: Tensor  # 81 (mean^2 + C1)
    spread: Tensor  # 9 (variance + C2)

    @classmethod
    def of(cls, image: Tensor) -> Target:
        sums, squares = _sums(image), _sums(image * image)
        return cls(image, sums, sums * sums + 81 * _C1, squares - sums * sums / 9 + 9 * _C2)


def _sums(values: Tensor, back: bool = False) -> Tensor:
    """Over the 3x3 pixels around each, beyond the edge those within it mirrored; or, `back`, the transpose of that:
    what each pixel gives to the sums that it is part of.

    One axis after the other, in place: on a processor several times as fast as pooling is.
    """
    for axis in (-2, -1):
        inner = values.shape[axis] - 2
        rest = (slice(None),) * (-1 - axis)
        edges: Any = (..., slice(None, None, inner + 1), *rest)
        beside: Any = (..., slice(1, inner + 1, inner - 1), *rest)
        made = torch.empty_like(values)
        torch.add(values.narrow(axis, 0, inner), values.narrow(axis, 2, inner), out=made.narrow(axis, 1, inner))
        made[edges] = values[beside] if back else values[beside] * 2
        if back:
            made[beside] += values[edges]
        values = made.add_(values)
    return values


class _Difference(torch.autograd.Function):
    """`difference` with its gradient by the image written out, in few passes over the pixels.

    With x and y the sums over windows of 9, the structural similarity is 4 h g / (c d), where
    h = x y + 81 C1 / 2, g = (xy's sums) - x y / 9 + 9 C2 / 2, c and d the levels and the spreads of both, added.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Target) -> Tensor:
        image = image.contiguous()
        x = _sums(image)
        h = x * target.sums
        g = _sums(image * target.image).sub_(h, alpha=1 / 9).add_(9 * _C2 / 2)
        h += 81 * _C1 / 2
        c = torch.addcmul(target.level, x, x)
        d = _sums(image * image).add_(target.spread).addcmul_(x, x, value=-1 / 9)
        ctx.save_for_backward(image, x, h, g, c, d)
        ctx.target = target
        quarter = (h * g).div_(c * d).mean(1)  # of the similarity
        plain = (image - target.image).abs_().mean(1)
        return quarter.mul_(-2 * STRUCTURE).add_(STRUCTURE / 2).add_(plain, alpha=1 - STRUCTURE)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        image, x, h, g, c, d = ctx.saved_tensors
        target: Target = ctx.target
        each = gradients[0][:, None] / image.shape[1]
        by_h = each * (-2 * STRUCTURE) / (c * d)
        by_g = by_h * h
        by_h *= g
        both = by_g * g  # the similarity's own gradient, times it
        by_c, by_d = both / c, both.div_(d)  # less than nothing, as they divide
        by_x = by_h.sub_(by_g, alpha=1 / 9).mul_(target.sums)
        by_x.addcmul_(x, by_c.sub_(by_d, alpha=1 / 9), value=-2)
        found = _sums(by_x, back=True).addcmul_(target.image, _sums(by_g, back=True))
        found.addcmul_(image, _sums(by_d, back=True), value=-2)
        return found.addcmul_((image - target.image).sign_(), each, value=1 - STRUCTURE), None


def difference(image: Tensor, target: Target | Tensor) -> Tensor:
    """(N, H, W): 0.85 of structural dissimilarity and 0.15 of the absolute difference, means over the channels.

    The similarity is SSIM in windows of 3x3 pixels. The gradient is the image's alone.

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
