"""Norms as small objects: how long a perturbation is, the nearest one inside a ball, a random one, a steepest step.

All work on perturbations (N, C, H, W) with one radius per image, (N,), and respect the box: `low` and `high` are what
may be subtracted and added before a pixel leaves [0, 1] (low <= 0 <= high).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws


class Norm(Protocol):
    name: str

    def length(self, delta: Tensor) -> Tensor:
        """(N,), in float64 where a sum is long."""

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The nearest point, in Euclidean distance, of the ball and the box together."""

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """A random start: uniform in the ball, then projected onto the box."""

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The step of length `size` along which a linear function with this gradient rises most."""


def per_image(values: float | Tensor, images: Tensor) -> Tensor:
    """A float, or one value per image, as (N,) beside `images`."""
    values = torch.as_tensor(values, dtype=images.dtype, device=images.device)
    if values.ndim and values.shape != images.shape[:1]:
        raise UserError(f"eps has shape {tuple(values.shape)}", f"one number or ({len(images)},) is needed")
    return values.expand(len(images))


def _wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)  # (N, 1, 1, 1)


def _reach(draws: Draws, like: Tensor) -> Tensor:
    """(N,) how far out a point lies, as a share of the radius, for points that are uniform in the ball's volume."""
    power = 1 / like[0].numel()
    return torch.tensor([s.random() ** power for s in draws.each("reach")], dtype=like.dtype, device=like.device)


class Linf:
    name = "inf"

    def length(self, delta: Tensor) -> Tensor:
        return delta.abs().flatten(1).amax(1).double()

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        radius = _wide(eps)
        return torch.minimum(torch.maximum(delta, torch.maximum(-radius, low)), torch.minimum(radius, high))

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        spread = draws.uniform(*low.shape[1:], purpose="start", device=low.device) * 2 - 1
        return self.project(spread * _wide(eps), eps, low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return gradient.sign() * _wide(size)


class L2:
    name = "2"

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).double().norm(dim=1)

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # By the optimality conditions the answer is clip(s * delta) with one factor s <= 1 per image. Start where no
        # coordinate meets its bound; those that do are fixed there and s grows for the others, until none is new.
        flat = delta.flatten(1).double()
        size = flat.abs()
        room = torch.where(flat > 0, high.flatten(1), -low.flatten(1)).double().clamp_min(0)  # (N, D)
        bound = torch.zeros_like(size, dtype=torch.bool)
        while True:
            left = (eps.double() ** 2 - (room**2 * bound).sum(1)).clamp_min(0)
            free = (size**2 * ~bound).sum(1)
            factor = (left / free.clamp_min(1e-300)).sqrt().clamp_max(1.0)[:, None]
            meets = bound | (factor * size > room)
            if bool((meets == bound).all()):
                break
            bound = meets
        return (torch.minimum(factor * size, room) * flat.sign()).to(delta.dtype).view_as(delta)

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        direction = draws.normal(*low.shape[1:], purpose="start", device=low.device)
        start = direction * _wide(eps * _reach(draws, low) / self.length(direction).to(eps))
        return self.project(start, eps, low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        length = self.length(gradient).clamp_min(1e-30)
        return (gradient.double() * _wide(size / length)).to(gradient.dtype)


class L1:
    name = "1"

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).double().abs().sum(1)

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # The answer is min(max(|delta| - t, 0), room) with one threshold t >= 0 per image. Its length falls with t
        # by straight pieces: a coordinate leaves its bound at t = |delta| - room and is gone at t = |delta|.
        flat = delta.flatten(1).double()
        size = flat.abs()
        room = torch.where(flat > 0, high.flatten(1), -low.flatten(1)).double().clamp_min(0)  # (N, D)
        radius = eps.double()
        breaks, order = torch.cat([size, size - room], 1).sort(1, descending=True)  # (N, 2D)
        weight = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1).gather(1, order)
        slope = weight.cumsum(1)  # coordinates that shrink between this break and the next
        length_at = (weight * breaks).cumsum(1) - slope * breaks  # the length when t is this break; rises along the row
        k = (length_at <= radius[:, None]).sum(1, keepdim=True).clamp_min(1) - 1
        over = radius[:, None] - length_at.gather(1, k)
        threshold = breaks.gather(1, k) - over / slope.gather(1, k).clamp_min(1)
        shrunk = torch.minimum((size - threshold.clamp_min(0)).clamp_min(0), room)
        return (shrunk * flat.sign()).to(delta.dtype).view_as(delta)

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # Exponentials over their sum are uniform on the simplex.
        sizes = draws.exponential(*low.shape[1:], purpose="start", device=low.device)
        signs = draws.integers(2, *low.shape[1:], purpose="signs", device=low.device) * 2 - 1
        start = sizes * signs * _wide(eps * _reach(draws, low) / self.length(sizes).to(eps))
        return self.project(start, eps, low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # A linear function rises most when the steepest coordinates are filled up to the box, one after the other.
        flat = gradient.flatten(1)
        room = torch.where(flat > 0, high.flatten(1), -low.flatten(1)).double().clamp_min(0)
        room = room * (flat != 0)
        order = flat.abs().argsort(1, descending=True)
        sorted_room = room.gather(1, order)
        before = sorted_room.cumsum(1) - sorted_room
        fill = torch.minimum((size.double()[:, None] - before).clamp_min(0), sorted_room)
        step = torch.zeros_like(room).scatter_(1, order, fill) * flat.sign()
        return step.to(gradient.dtype).view_as(gradient)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1())}


def norm_named(name: str | float | Norm) -> Norm:
    """The norm called "inf", 2, "linf", float("inf") ...

    >>> norm_named(float("inf")).name, norm_named(2).name, norm_named("l1").name
    ('inf', '2', '1')
    """
    text = getattr(name, "name", None) or (f"{name:g}" if isinstance(name, int | float) else str(name))
    text = text.lower().removeprefix("l_").removeprefix("l")
    if text not in NORMS:
        raise UserError(f"norm={name}", f"one of {', '.join(NORMS)}")
    return NORMS[text]
