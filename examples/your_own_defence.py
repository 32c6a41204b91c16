"""A defence says how it must be attacked, and the evaluation does it.

Rounding the pixels stops the gradient: attacked straight through, the model looks unbreakable. Declared as what it is,
the rounding is skipped on the way back, and nothing is left of the gain.
"""

from collections.abc import Sequence

import torch

import vallum
from vallum.defences.base import Defence, Surface
from vallum.models import Model


class Rounding(Defence):
    """Rounds pixels to a few levels before the model sees them."""

    levels = 8

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model((images * self.levels).round() / self.levels)

    def attack_surfaces(self) -> Sequence[Surface]:
        return [*super().attack_surfaces(), Surface("straight-through", StraightThrough(self))]


class StraightThrough(Rounding):
    """The same forward; on the way back the rounding counts as the identity."""

    def __init__(self, defence: Rounding) -> None:
        super().__init__(defence.model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rounded = (images * self.levels).round() / self.levels
        return self.model(images + (rounded - images).detach())


def build() -> Model:
    """For the command line: vallum evaluate examples/your_own_defence.py:build"""
    return Rounding(vallum.load_model("builtin:signs_resnet"))


if __name__ == "__main__":
    run = vallum.evaluate(
        {"rounding": build()}, "builtin:signs", ["pgd:eps=2/255,steps=20"], n=64, out="runs/example-defence"
    )
    for row in run.summary:
        print(f"{row['threat']:24} {row['surface']:18} {row['value']:.2f}")
