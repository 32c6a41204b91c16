"""A defence says what it is, and the evaluation attacks it accordingly.

Rounding the pixels stops the gradient: attacked head on, the model looks unbreakable. Declared as a change of the
images, the rounding is passed over on the way back, and nothing is left of the gain.
"""

import torch

import vallum
from vallum.defences import Defence
from vallum.models import Model


class Rounding(Defence):
    """Rounds pixels to a few levels before the model sees them."""

    randomised = stateful = False
    levels = 8

    def purify(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.levels).round() / self.levels


def build() -> Model:
    """For the command line: vallum evaluate examples/your_own_defence.py:build"""
    return Rounding(vallum.load_model("builtin:signs_resnet"))


if __name__ == "__main__":
    run = vallum.evaluate(
        {"rounding": build()}, "builtin:signs", ["pgd:eps=2/255,steps=20"], n=64, out="runs/example-defence"
    )
    for row in run.summary:
        print(f"{row['model']:22} {row['threat']:24} {row['surface']:18} {row['value']:.2f}")
