"""A small network that guesses in one pass where many steps of a repair would lead."""

from __future__ import annotations

from torch import Tensor, nn

from vallum.defences.cost import operations
from vallum.models.model import Model
from vallum.models.nets import MEAN, STD

WIDTHS = (8, 12, 16, 24, 32, 48, 64, 96, 128)


class Guess(nn.Module):
    """What to add to each image, (N, C, H, W) in units of the budget, each between -1 and 1; nothing at first.

    Residual convolutions on squares of 2x2 pixels.

    >>> import torch
    >>> bool(Guess(channels=3, width=8)(torch.rand(2, 3, 15, 16)).any())
    False
    """

    def __init__(self, channels: int, width: int, blocks: int = 3) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Conv2d(4 * channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.last = nn.Conv2d(width, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        even = nn.functional.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        found = self.first(nn.functional.pixel_unshuffle((even - MEAN) / STD, 2))
        for block in self.blocks:
            found = found + block(found)
        return nn.functional.pixel_shuffle(self.last(found), 2)[:, :, :height, :width].tanh()


def widest(model: Model, images: Tensor, most: float) -> int:
    """The width of a guess that takes at most so many passes of the model; the narrowest there is, if none does."""
    room, one = most * operations(model, images[:1]), images[:1].cpu()
    fitting = [width for width in WIDTHS if operations(Guess(one.shape[1], width).eval(), one) <= room]
    return max(fitting, default=WIDTHS[0])
