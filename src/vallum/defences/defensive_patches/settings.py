"""How long and how fast patches are looked for; what they are for is the maker's business."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from vallum.errors import UserError, did_you_mean
from vallum.specs import parameter


@dataclass(frozen=True)
class Settings:
    """The same settings and seed give the same patches.

    >>> Settings.of(steps=10).lr_at(10, 0.1), Settings.of(steps=10, schedule="constant").lr_at(10, 0.1)
    (0.001, 0.1)
    """

    steps: int = parameter("how often the patches are changed", 400)
    batch_size: int = parameter("images in each step", 64)
    optimizer: Literal["adam", "sign"] = parameter("sign: steps of one length, as published for unadversarial", "adam")
    lr: float | None = parameter("of the first step; none: what suits the colours", None)
    schedule: Literal["cosine", "constant"] = parameter("how the learning rate goes", "cosine")
    roughness: float = parameter("weight of differences between neighbouring pixels (total variation)", 0.0)
    unprintability: float = parameter("weight of the distance to colours that print", 0.0)
    images: int = parameter("of the data, that patches are made on and chosen by, a quarter of them for choosing", 4000)
    watch: int = parameter("of those for choosing, how many are looked at each time", 256)
    looks: int = parameter("how often patches are looked at; the best are kept", 10)
    precision: Literal["32-true", "bf16-mixed"] = parameter("of the models' passes", "32-true")
    seed: int = parameter("of the images, their order and everything else", 0)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "images", "watch", "looks"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}", "at least 1 is needed")
        if min(self.roughness, self.unprintability) < 0 or (self.lr is not None and self.lr <= 0):
            raise UserError("a weight is negative, or a learning rate is not positive", remedy="leave it out")

    @classmethod
    def of(cls, **given: Any) -> Settings:
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                raise UserError(f"there is no setting {name!r}", remedy=did_you_mean(name, known))
        return cls(**given)

    def lr_at(self, step: int, first: float) -> float:
        if self.schedule == "constant":
            return first
        return first * (0.01 + 0.99 * (1 + math.cos(math.pi * step / self.steps)) / 2)
