"""Norms as small objects: how long a perturbation is, the nearest one inside a ball, a random one, a steepest step.

All work on perturbations (N, C, H, W) with one radius per image, (N,), and respect the box: `low` and `high` are what
may be subtracted and added before a pixel leaves [0, 1] (low <= 0 <= high).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws


class Length(Protocol):
    """A measure of how much was changed, which is all that a budget needs."""

    name: str

    def length(self, delta: Tensor) -> Tensor:
        """(N,), in float64 where a sum is long."""


class Norm(Length, Protocol):
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


def at_least_float32(like: Tensor) -> torch.dtype:
    """In which floors and squares are held that half as many bits would round to nothing."""
    return torch.promote_types(like.dtype, torch.float32)


def _column(values: Tensor) -> Tensor:
    return values[:, None]  # (N, 1)


def _wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)  # (N, 1, 1, 1)


def _reach(draws: Draws, like: Tensor) -> Tensor:
    """(N,) how far out a point lies, as a share of the radius, for points that are uniform in the ball's volume."""
    power = 1 / like.shape[1:].numel()
    return torch.tensor([s.random() ** power for s in draws.each("reach")], dtype=like.dtype, device=like.device)


def _sides(delta: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) each in float64: how large each coordinate is, and how large the box lets it be on its side of zero."""
    flat = delta.flatten(1)
    room = torch.where(flat > 0, high.flatten(1), -low.flatten(1)).clamp_min(0)
    return flat.abs().double(), room.double()


def _signed(sizes: Tensor, like: Tensor) -> Tensor:
    return sizes.to(like.dtype).view_as(like).copysign(like)


class Linf:
    name = "inf"

    def length(self, delta: Tensor) -> Tensor:
        return delta.abs().flatten(1).amax(1).double()

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        radius, inside = _wide(eps), delta.clamp(low, high)
        if inside.requires_grad:
            return torch.minimum(torch.maximum(inside, -radius), radius)
        return torch.minimum(torch.maximum(inside, -radius, out=inside), radius, out=inside)

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        spread = draws.uniform(*low.shape[1:], purpose="start", device=low.device).to(low.dtype) * 2 - 1
        return self.project(spread * _wide(eps), eps, low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return gradient.sign().mul_(_wide(size))


class L2:
    name = "2"

    def length(self, delta: Tensor) -> Tensor:
        return torch.linalg.vector_norm(delta.flatten(1), dim=1, dtype=torch.float64)

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # By the optimality conditions the answer is clip(s * delta) with one factor s <= 1 per image. Its squared
        # length is a concave function of s * s: secants from below, the first through zero, come near and never beyond.
        radius, enough = eps.double(), 1 + 2 * torch.finfo(delta.dtype).eps
        with torch.no_grad():
            factor = (radius / _about(delta).clamp_min(1e-150)).clamp_max(1)  # (N,) what it is if no bound is met
            inside = (delta * _wide(factor).to(delta.dtype)).clamp_(low, high)
            room, square = radius.square(), factor.square()
            before = reached = torch.zeros_like(square)
            while not bool((square >= 1).all()):  # who was in the ball needs no more than the box
                reached, shorter = _about(inside).square(), reached
                slope = (square - before) / (reached - shorter).clamp_min(1e-300)
                grown = (square + (room - reached) * slope).clamp_max(1)
                if not bool((grows := grown > square * enough).any()):
                    break
                # An image that is done waits for its neighbours unmoved.
                before, square = torch.where(grows, square, before), torch.where(grows, grown, square)
                reached = torch.where(grows, reached, shorter)
                torch.mul(delta, _wide(square.sqrt()).to(delta.dtype), out=inside).clamp_(low, high)
            else:
                reached = _about(inside).square()
            # Where lengths hardly differ their difference is mostly rounding, and a secant may lead too far.
            if bool((beyond := reached > room * (1 + 4 * (enough - 1))).any()):
                square = torch.where(beyond, self._halved(delta, room, low, high), square)
                torch.mul(delta, _wide(square.sqrt()).to(delta.dtype), out=inside).clamp_(low, high)
        return self._differentiable(delta, inside, room, square, low, high) if _followed(delta, low) else inside

    def _halved(self, delta: Tensor, room: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The square of the factor by halving, which is slow, and never beyond."""
        below, above = torch.zeros_like(room), torch.ones_like(room)  # of the factor
        for _ in range(80):
            middle = (below + above) / 2
            reached = _about((delta * _wide(middle).to(delta.dtype)).clamp(low, high)).square()
            below, above = torch.where(reached > room, below, middle), torch.where(reached > room, middle, above)
        return below.square()

    def _differentiable(
        self, delta: Tensor, inside: Tensor, room: Tensor, square: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        """The same with a gradient: which bounds are met is given, and from that the factor follows."""
        free = (inside > low) & (inside < high)
        fixed = (delta.clamp(low, high) * ~free).double().flatten(1).square().sum(1)
        moving = (delta * free).double().flatten(1).square().sum(1)
        factor = ((room - fixed).clamp_min(1e-300) / moving.clamp_min(1e-300)).sqrt()
        factor = torch.where((square < 1) & (room > 0), factor, square.sqrt())
        return (delta * _wide(factor).to(delta.dtype)).clamp(low, high)

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        direction = draws.normal(*low.shape[1:], purpose="start", device=low.device).to(low.dtype)
        start = direction * _wide(eps * _reach(draws, low) / self.length(direction).to(eps))
        return self.project(start, eps, low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        length = _about(gradient)
        if bool((beyond := (length < 1e-15) | (length == torch.inf)).any()):  # whose squares float32 does not hold
            length = torch.where(beyond, self.length(gradient).clamp_min(1e-30), length)
        factor = (size / length).to(torch.promote_types(gradient.dtype, torch.float32))
        return (gradient * _wide(factor)).to(gradient.dtype)


def _followed(*tensors: Tensor) -> bool:
    """Whether a gradient will be asked for that passes through here."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _about(delta: Tensor) -> Tensor:
    """(N,) lengths in the norm 2 to the rounding of float32, however many values: row by row, then over the rows."""
    rows = torch.linalg.vector_norm(delta, dim=-1, dtype=torch.promote_types(delta.dtype, torch.float32))
    return torch.linalg.vector_norm(rows.flatten(1), dim=1, dtype=torch.float64)


class L1:
    name = "1"

    def length(self, delta: Tensor) -> Tensor:
        return delta.flatten(1).abs().sum(1, dtype=torch.float64)

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # The answer is min(max(|delta| - t, 0), room) with one threshold t >= 0 per image, at which the sum is eps.
        # Newton's steps find the stretch of t on which it lies, in the precision at hand, and there the answer in
        # float64; where they leave what is known to hold it, half of that is taken.
        flat, radius = delta.flatten(1), eps.double()
        size, room = flat.abs(), torch.where(flat > 0, high.flatten(1), -low.flatten(1)).clamp_min(0)
        boxed = torch.minimum(size, room)
        beyond = boxed.sum(1, dtype=torch.float64) > radius  # (N,) the others need no more than the box
        if not bool(beyond.any()):
            return _signed(boxed, delta)
        threshold = torch.zeros_like(radius)
        for precision in dict.fromkeys((size.dtype, torch.float64)):
            with torch.no_grad():
                threshold = _threshold(size.to(precision), room.to(precision), radius, threshold, beyond)
        if _followed(delta, low):  # with a gradient: which bounds are met is given, and from that t follows
            free = (size > _column(threshold)) & (size - _column(threshold) < room)
            top = room.double() * (size - _column(threshold) >= room)
            exact = ((size.double() * free).sum(1) + top.sum(1) - radius) / free.sum(1).clamp_min(1)
            threshold = torch.where(beyond & free.any(1), exact, threshold)
        shrunk = size.double() - _column(torch.where(radius > 0, threshold, torch.inf))
        return _signed(torch.minimum(shrunk.clamp_min(0), room), delta)

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # Exponentials over their sum are uniform on the simplex.
        sizes = draws.exponential(*low.shape[1:], purpose="start", device=low.device).to(low.dtype)
        signs = draws.integers(2, *low.shape[1:], purpose="signs", device=low.device) * 2 - 1
        start = sizes * signs * _wide(eps * _reach(draws, low) / self.length(sizes).to(eps))
        return self.project(start, eps, low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # A linear function rises most when the steepest coordinates are filled up to the box, one after the other.
        # Few are needed, so look at the steepest k for the slope at which the step ends; coordinates of that very
        # slope share what is left, whatever the order in which a device happens to find them.
        room = torch.where(gradient > 0, high, -low).clamp_min(0).flatten(1).double() * (gradient != 0).flatten(1)
        slope = gradient.abs().flatten(1) * (room > 0)  # (N, D)
        k, dimension = 64, slope.shape[1]
        while True:
            top, order = slope.topk(min(k, dimension), 1)
            filled = room.gather(1, order).cumsum(1)
            if k >= dimension or bool((filled[:, -1] >= size).all()):
                break
            k *= 4
        end = top.gather(1, (filled < _column(size)).sum(1, keepdim=True).clamp_max(top.shape[1] - 1))  # (N, 1)
        above, level = room * (slope > end), room * (slope == end)
        left = (size.double() - above.sum(1)).clamp_min(0)
        share = (left / level.sum(1).clamp_min(1e-300)).clamp_max(1)
        return _signed(above + level * _column(share), gradient)


def _threshold(size: Tensor, room: Tensor, radius: Tensor, begin: Tensor, these: Tensor) -> Tensor:
    """(N,) t at which min(max(size - t, 0), room) sums up to the radius, sought from `begin` for the rows `these`."""
    t, low, high = begin, torch.zeros_like(begin), size.amax(1).double()
    exact, enough = size.dtype == torch.float64, 4 * torch.finfo(size.dtype).eps
    shrunk, inside, free = torch.empty_like(size), torch.empty_like(size), torch.empty_like(size)
    while True:
        torch.sub(size, _column(t.to(size.dtype)), out=shrunk)
        torch.minimum(torch.clamp_min(shrunk, 0, out=inside), room, out=inside)
        over = inside.sum(1, dtype=torch.float64) - radius
        slope = torch.eq(shrunk, inside, out=free).sum(1).double()  # how many fall as t rises
        low, high = torch.where(over > 0, t, low), torch.where(over > 0, high, t)
        ahead = t + over / slope.clamp_min(1)
        ahead = torch.where((ahead > low) & (ahead < high) & (slope > 0), ahead, (low + high) / 2)
        moves = these & (over.abs() > enough * radius) & ((ahead - t).abs() > (0 if exact else enough * t))
        if not bool(moves.any()):
            return t
        t = torch.where(moves, ahead, t)


class L0:
    """How many values of the image differ, each colour of a pixel counted: no norm in truth, nor is its ball convex."""

    name = "0"

    def length(self, delta: Tensor) -> Tensor:
        return (delta != 0).flatten(1).sum(1).double()

    def project(self, delta: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # What a coordinate saves by being kept, at its nearest place in the box, instead of being put back to zero.
        size, room = _sides(delta, low, high)
        kept = torch.minimum(size, room)
        saved = kept * (2 * size - kept)
        return _signed(kept * (_places(saved) < eps.floor()[:, None]), delta)

    def random(self, draws: Draws, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
        shape = low.shape[1:]
        order = draws.uniform(*shape, purpose="start", device=low.device).flatten(1)
        values = draws.uniform(*shape, purpose="values", device=low.device).to(low.dtype)
        chosen = (_places(order) < eps.floor()[:, None]).view_as(low)
        return ((low + values * (high - low)) * chosen).clamp(low, high)

    def steepest(self, gradient: Tensor, size: Tensor, low: Tensor, high: Tensor) -> Tensor:
        # As many coordinates as the step is long, one at least, all the way to the box: those that gain most by it.
        move = torch.where(gradient > 0, high, torch.where(gradient < 0, low, 0))
        gain = (gradient.double() * move).flatten(1)
        return move * (_places(gain) < size.ceil().clamp_min(1)[:, None]).view_as(move)


def _places(values: Tensor) -> Tensor:
    """(N, D) the place of each value when a row is put in descending order, equals in the order they stand in."""
    return values.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)


@dataclass
class Ball:
    """Ball and box around each image, made once for the many steps of an attack.

    In the norm inf the two are one box, and a projection costs a single pass over the pixels. What `project` and
    `step` are given of `moved` and `gradient` is theirs to write over: on a processor, where memory that is asked for
    anew costs more than the arithmetic, that is most of what a step takes beside the network.
    """

    norm: Norm
    eps: Tensor  # (N,)
    low: Tensor  # (N, C, H, W)
    high: Tensor

    @classmethod
    def around(cls, norm: Norm, clean: Tensor, eps: Tensor) -> Ball:
        low, high = clean.neg(), 1 - clean
        if norm.name == "inf":
            low, high = low.maximum(-_wide(eps)), high.minimum(_wide(eps))
        return cls(norm, eps, low, high)

    def take(self, stays: Tensor) -> Ball:
        return Ball(self.norm, self.eps[stays], self.low[stays], self.high[stays])

    def project(self, moved: Tensor) -> Tensor:
        if self.norm.name == "inf":
            return moved.clamp_(self.low, self.high)
        return self.norm.project(moved, self.eps, self.low, self.high)

    def step(self, delta: Tensor, gradient: Tensor, size: Tensor) -> Tensor:
        """Where the steepest step from `delta` leads."""
        if self.norm.name in ("inf", "2"):  # there the step does not depend on how much room the box leaves
            ahead = self.norm.steepest(gradient, size, self.low, self.high)
        else:
            ahead = self.norm.steepest(gradient, size, self.low - delta, self.high - delta)
        return self.project(ahead.add_(delta))


NORMS: dict[str, Norm] = {norm.name: norm for norm in (Linf(), L2(), L1())}  # convex balls
_KNOWN: dict[str, Norm] = {**NORMS, "0": L0()}


def farthest(direction: Tensor, eps: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The multiple of a direction that, clamped to the box, lies on the sphere of the norm 2: the projection of one
    far out, and of ball and box the point at which a linear function of this slope is highest."""
    largest = direction.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    return _KNOWN["2"].project(direction / largest * 1e8, eps, low, high)


def norm_named(name: str | float | Norm) -> Norm:
    """The norm called "inf", 2, "linf", float("inf") ...

    >>> norm_named(float("inf")).name, norm_named(2).name, norm_named("l1").name
    ('inf', '2', '1')
    """
    text = getattr(name, "name", None) or (f"{name:g}" if isinstance(name, int | float) else str(name))
    text = text.lower().removeprefix("l_").removeprefix("l")
    if text not in _KNOWN:
        raise UserError(f"norm={name}", f"one of {', '.join(_KNOWN)}")
    return _KNOWN[text]
