"""Perturbations that owe nothing to the model: what a universal attack must beat before it may be called one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded
from vallum.threats.norms import norm_named, per_image

Form = Literal["chessboard", "stripes", "columns", "low_frequency", "colour", "signs"]
FORMS: tuple[Form, ...] = ("chessboard", "stripes", "columns", "low_frequency", "colour", "signs")


@THREATS.register("pattern")
@dataclass(frozen=True)
class Pattern(Bounded):
    """A fixed pattern added to every image, at the edge of the ball.

    >>> Pattern(eps=8 / 255, form="stripes").spec
    'pattern:eps=8/255,form=stripes'
    """

    eps: float | Tensor = parameter("radius", 10 / 255)
    form: Form = parameter("what is drawn", "chessboard")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    size: int = parameter("pixels until it changes; of low_frequency: waves across the image", 2)
    seed: int = parameter("of signs, colours and phases", 0)

    looks: ClassVar[bool] = False

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        images = images.detach()
        if not len(images):
            return images.clone()
        signs = draw(self.form, tuple(images.shape[1:]), self.size, self.seed).to(images)[None]
        ones, norm, radii = torch.ones_like(signs), norm_named(self.norm), per_image(self.eps, images)
        edge = torch.cat([norm.steepest(signs, eps[None], -ones, ones) for eps in radii])
        return (images + norm.project(edge, radii, -ones, ones)).clamp(0, 1)


def draw(form: Form, shape: tuple[int, ...], size: int, seed: int) -> Tensor:
    """(C, h, w) of -1 and 1."""
    channels, height, width = shape
    down, right = torch.arange(height)[:, None] // size, torch.arange(width)[None] // size
    draws = Draws(seed, [0], "pattern")
    if form == "low_frequency":
        phase = draws.uniform(channels, 2, purpose="phase")[0] * 2 * torch.pi  # (C, 2)
        y, x = torch.arange(height) / height, torch.arange(width) / width
        waves = (2 * torch.pi * size * y + phase[:, :1]).sin()[:, :, None] + (
            2 * torch.pi * size * x + phase[:, 1:]
        ).sin()[:, None]
        return torch.where(waves >= 0, 1.0, -1.0)
    if form == "colour":
        flat = draws.integers(2, channels, purpose="colour")[0].view(-1, 1, 1).expand(shape)
    elif form == "signs":
        flat = draws.integers(2, *shape, purpose="signs")[0]
    else:
        flat = {
            "chessboard": down + right,
            "stripes": down.expand(height, width),
            "columns": right.expand(height, width),
        }[form].expand(shape)
    return torch.where(flat % 2 == 0, 1.0, -1.0)
