"""What Square proposes: windows, colours, and for the norms 1 and 2 pyramids that take over what other windows held."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.threats.norms import at_least_float32

SHRINKS_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10000 queries: there the squares' area is halved
AT_ONCE = 50  # queries for which an image draws together


def side_of(area: float, progress: float, images: Tensor) -> int:
    """The squares' side: their area is halved again and again as the queries are used up."""
    height, width = images.shape[2:]
    area /= 2 ** sum(10000 * progress > at for at in SHRINKS_AT)
    return max(1, min(height, width, round((area * height * width) ** 0.5)))


@dataclass
class Proposals:
    """What each image has drawn for the next AT_ONCE queries."""

    places: Tensor  # (N, AT_ONCE, 5) in [0, 1): top and left of two windows, and which way a pyramid lies
    colours: Tensor  # (N, AT_ONCE, C) of -1 and 1

    @classmethod
    def drawn(cls, draws: Draws, like: Tensor) -> Proposals:
        places = draws.uniform(AT_ONCE, 5, purpose="places", device=like.device)
        return cls(places, signs(draws, like, AT_ONCE, like.shape[1], purpose="colours"))

    def take(self, stays: Tensor) -> Proposals:
        return Proposals(self.places[stays], self.colours[stays])

    def colour(self, query: int) -> Tensor:
        return self.colours[:, query % AT_ONCE, :, None, None]  # (N, C, 1, 1)

    def lies(self, query: int) -> Tensor:
        return (self.places[:, query % AT_ONCE, 4] < 0.5).view(-1, 1, 1, 1)

    def window(self, query: int, side: int, like: Tensor, which: int = 0) -> tuple[Tensor, Tensor]:
        """Rows (N, H) and columns (N, W) of a square: each pixel's place in it, from 0; elsewhere below 0 or beyond."""
        place = self.places[:, query % AT_ONCE, 2 * which : 2 * which + 2]
        height, width = like.shape[2:]
        top, left = (place * torch.tensor([height - side + 1, width - side + 1], device=place.device)).floor().unbind(1)
        rows = torch.arange(height, device=place.device) - top.long()[:, None]
        return rows, torch.arange(width, device=place.device) - left.long()[:, None]


def signs(draws: Draws, like: Tensor, *shape: int, purpose: str) -> Tensor:
    return (draws.integers(2, *shape, purpose=purpose, device=like.device) * 2 - 1).to(like.dtype)


def inside(window: tuple[Tensor, Tensor], side: int) -> Tensor:
    """(N, 1, H, W)"""
    rows, columns = ((places >= 0) & (places < side) for places in window)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def stripes(draws: Draws, like: Tensor) -> Tensor:
    """A start for the norm inf: each column of each channel all the way to one side of the ball, (N, C, 1, W)."""
    return signs(draws, like, like.shape[1], 1, like.shape[3], purpose="stripes").expand(like.shape)


def pyramids(draws: Draws, like: Tensor, power: int) -> Tensor:
    """A start for the norms 1 and 2: about five by five tiles, each with two pyramids.

    In the norm 2 it is of length 1, in the norm 1 each tile is: more than any radius, for what the projection leaves
    there are the tips, and few values that are large do more than many small ones.
    """
    channels, height, width = like.shape[1:]
    side = max(1, min(height, width) // 5)
    down, across = height // side, width // side
    tile = pyramid_pair(side, like, power)
    wall = torch.zeros_like(like[:1, :1])
    wall[:, :, : down * side, : across * side] = tile.repeat(down, across)
    sign = signs(draws, like, channels, down, across, purpose="tiles")
    sign = sign.repeat_interleave(side, 2).repeat_interleave(side, 3)  # (N, C, down * side, across * side)
    start = torch.zeros_like(like)
    start[:, :, : down * side, : across * side] = sign * wall[:, :, : down * side, : across * side]
    return start if power == 1 else start / float(wall.double().square().sum().mul(channels).sqrt())


def pyramid_pair(side: int, like: Tensor, power: int) -> Tensor:
    """(side, side) of length 1: a pyramid above and its negative below."""
    if side == 1:
        return torch.ones(1, 1, dtype=like.dtype, device=like.device)
    half = side // 2
    both = torch.cat([_pyramid(half, side, power), -_pyramid(side - half, side, power)])
    return (both / both.abs().pow(power).sum().pow(1 / power)).to(like)


def _pyramid(rows: int, columns: int, power: int) -> Tensor:
    """Highest in the middle, falling with the distance from it as reciprocals of powers add up."""
    from_row, from_column = (torch.arange(n) - n // 2 for n in (rows, columns))
    ring = torch.maximum(from_row.abs()[:, None], from_column.abs())
    steps = torch.arange(max(rows, columns) // 2 + 1)
    return ((steps >= ring[..., None]) / (steps + 1.0).double().pow(4 if power == 1 else 2)).sum(-1)


def moved(proposals: Proposals, query: int, side: int, delta: Tensor, eps: Tensor, power: int) -> Tensor:
    """One window emptied, and what it held, with what the radius leaves, given to another as a pair of pyramids.

    What a window holds is the sum of its values' sizes to this power: 1 in the norm 1, 2 in the norm 2.
    """
    side = min(max(side | 1, 3), delta.shape[2] - (delta.shape[2] + 1) % 2, delta.shape[3] - (delta.shape[3] + 1) % 2)
    to = proposals.window(query, side, delta)
    into, out = inside(to, side), inside(proposals.window(query, side, delta, which=1), side)

    def sum_of(part: Tensor) -> Tensor:
        return part.double().abs().pow(power).flatten(2).sum(2)  # (N, C)

    def length(amount: Tensor) -> Tensor:
        return amount.pow(1 / power)

    precision = at_least_float32(delta)
    held = length(sum_of(delta * into))
    spare = (eps.view(-1, 1).double().pow(power) - sum_of(delta).sum(1, keepdim=True)).clamp_min(0) / delta.shape[1]
    budget = length(sum_of(delta * (into | out)) + spare)
    pair = pyramid_pair(side, delta, power)
    pair = torch.where(proposals.lies(query)[..., 0], pair.T[None], pair[None])
    rows, columns = (places.clamp(0, side - 1) for places in to)
    shape = pair[:, None].gather(2, rows[:, None, :, None].expand(-1, 1, -1, side))  # (N, 1, H, side)
    shape = shape.gather(3, columns[:, None, None, :].expand(-1, 1, delta.shape[2], -1)) * into  # (N, 1, H, W)
    old = delta * into / held.clamp_min(1e-12).to(precision)[..., None, None]
    new = shape * proposals.colour(query) + old
    new = torch.where(sum_of(new)[..., None, None] > 0, new, old)  # in a window of one pixel the two may cancel
    new = new * (budget / length(sum_of(new)).clamp_min(1e-12)).to(precision)[..., None, None]
    if power == 1:  # more than there is, so that what the projection leaves are the tips
        return torch.where(into, new * delta.shape[1], torch.where(out, 0, delta)).to(delta.dtype)
    ahead = torch.where(into, new, torch.where(out, 0, delta))
    whole = length(sum_of(ahead).sum(1)).clamp_min(1e-12)
    return (ahead * (eps.flatten().double() / whole).to(precision).view(-1, 1, 1, 1)).to(delta.dtype)
