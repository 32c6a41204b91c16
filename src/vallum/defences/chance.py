"""The randomness of a defence: what an image draws depends on the image, not on the batch that it is in.

A defence that draws asks `draws_for(images)`. The streams that it gets are keyed by what each image holds, by a seed
and by the number of the draw; so an image alone and the same image in any batch meet the same noise, an attack meets
other noise at each point it tries, and whoever judges asks for as many fresh draws as wanted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.images import Draws


@dataclass(frozen=True)
class Chance:
    """Where draws come from at present."""

    seed: int = 0
    numbers: int | Sequence[int] = 0  # of the draw: one for all images, or one for each
    known: bool = False  # the same for every image and every point: what an attacker who knows the draw is up against


_NO_ONE_ASKED = Chance()
_chance: ContextVar[Chance | None] = ContextVar("chance", default=None)


@contextmanager
def drawing(seed: int | None = None, numbers: int | Sequence[int] = 0, known: bool | None = None) -> Iterator[None]:
    """Inside, defences draw from this seed and these numbers; what is not given stays as it was."""
    before = _chance.get() or _NO_ONE_ASKED
    token = _chance.set(
        Chance(before.seed if seed is None else seed, numbers, before.known if known is None else known)
    )
    try:
        yield
    finally:
        _chance.reset(token)


def draws_for(images: Tensor, owner: str) -> Draws:
    """The random streams of each image, for the part of a defence that `owner` names.

    >>> images = torch.rand(3, 3, 8, 8)
    >>> alone, together = (draws_for(some, "noise").normal(2, purpose="size") for some in (images[1:2], images))
    >>> bool((alone[0] == together[1]).all())
    True
    """
    chance = _chance.get() or _NO_ONE_ASKED
    given = [chance.numbers] if isinstance(chance.numbers, int) else chance.numbers
    # A defence around this one may have made several images of each, stacked: then the numbers begin again.
    numbers = [given[row % len(given)] for row in range(len(images))]
    if chance.known:
        return Draws(chance.seed, numbers, owner)
    keys = [_key(image, number) for image, number in zip(images.detach().cpu(), numbers, strict=True)]
    return Draws(chance.seed, keys, owner)


def _key(image: Tensor, number: int) -> int:
    held = (image.float() + 0.0).contiguous().numpy().tobytes()  # no minus zero: it would count as another image
    digest = hashlib.blake2b(held, digest_size=8, salt=number.to_bytes(16, "little")).digest()
    return int.from_bytes(digest, "little", signed=True)


@contextmanager
def settled(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draws of torch's own come from this seed inside, and go on as if nothing had been outside."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed % 2**63)
        yield
