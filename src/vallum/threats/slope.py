"""Which way is uphill: the gradient that attacks follow, finite whatever the model's own is.

A root or a gamma curve is infinitely steep at a black pixel, and what lies behind a dead unit may be nothing times
infinity. One such value would make a perturbation of NaN, or of nothing, and leave the attack disarmed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.threats.norms import at_least_float32

Box = tuple[Tensor | float, Tensor | float]
PIXELS: Box = (0.0, 1.0)


def slope_of(values: Tensor, point: Tensor, box: Box | None = PIXELS, keep: bool = False) -> Tensor:
    """The gradient of the values' sum, which is to be raised, at a `point` (N, ...) of the box, if there is one.

    With `keep` the graph may be asked again.

    >>> point = torch.tensor([[0.0, 0.25]], requires_grad=True)
    >>> slope_of(point.sqrt().sum(1), point)
    tensor([[1., 1.]])
    """
    if not values.requires_grad:
        raise no_gradient()
    (gradient,) = torch.autograd.grad(values.sum(), point, retain_graph=keep, allow_unused=True)
    if gradient is None:
        raise no_gradient()
    # One sum tells of any value that is none; it may overflow itself, and then nothing is changed.
    if math.isfinite(float(gradient.sum(dtype=at_least_float32(gradient)))):
        return gradient
    return mended(gradient, point.detach(), box)


def no_gradient() -> UserError:
    """What there is to say where no gradient leads back to the images."""
    return UserError(
        "the model gives no gradient with respect to its images",
        "this attack follows one",
        "remove no_grad, detach or numpy from its forward pass, or take square, random_search or hop_skip_jump, which "
        "need none",
    )


def mended(gradient: Tensor, point: Tensor, box: Box | None = PIXELS) -> Tensor:
    """Where it is infinite as steep as that image's steepest finite value, or 1; nothing where it is no number.

    Nothing either where an infinite slope leads out of the box: what cannot get any blacker would take the best part of
    a step in the norm 2 for itself.

    >>> slopes = [[3.0, -torch.inf, torch.nan, -torch.inf], [1.0, 2.0, -4.0, 0.0], [torch.inf, 0.0, 0.0, 0.0]]
    >>> mended(torch.tensor(slopes), torch.tensor([0.5, 0.5, 0.5, 0.0]))
    tensor([[ 3., -3.,  0.,  0.],
            [ 1.,  2., -4.,  0.],
            [ 1.,  0.,  0.,  0.]])
    """
    size = gradient.abs()
    if box is not None:
        out = torch.where(gradient > 0, point >= box[1], point <= box[0])
        gradient = gradient.masked_fill(out & (size == torch.inf), 0)
    most = size.where(size < torch.inf, 0).flatten(1).amax(1)  # (N,)
    most = torch.where(most > 0, most, 1).view(-1, *(1,) * (gradient.ndim - 1))
    return gradient.clamp(-most, most).nan_to_num(0.0)
