"""A small segmenter in the parts that segmentation networks have: encoder, decoder, head."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 96, 128)  # of the features at strides 2, 4, 8, 16, 32


class Segmenter(nn.Module):
    """Residual encoder, and a decoder that joins its features from coarse to fine; logits as large as the image."""

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.encoder = Encoder(channels)
        self.decoder = Decoder(WIDTHS)
        self.head = nn.Conv2d(self.decoder.widths[0], classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        logits = self.head(self.decoder(features))
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


class Encoder(nn.Module):
    """Images to features at strides 2, 4, 8, 16 and 32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first = nn.Sequential(
            nn.Conv2d(channels, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList([first, *(Residual(narrow, wide) for narrow, wide in pairwise(WIDTHS))])

    def forward(self, images: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


class Residual(nn.Module):
    """Two convolutions around a shortcut; half as large, wider."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(narrow, wide, 3, 2, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, wide, 3, 1, 1, bias=False),
            nn.BatchNorm2d(wide),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(narrow, wide, 1, 2, bias=False), nn.BatchNorm2d(wide))

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.body(features) + self.shortcut(features))


class Decoder(nn.Module):
    """Features from coarse to fine: each step widens to the next size, joins its features, and convolves."""

    def __init__(self, widths: Sequence[int], narrowest: int = 24) -> None:
        super().__init__()
        outs = [max(narrowest, width // 2) for width in widths[:-1]]
        coarse = [*outs[1:], widths[-1]]
        self.joins = nn.ModuleList(
            nn.Sequential(nn.Conv2d(below + skip, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))
            for below, skip, out in zip(coarse, widths[:-1], outs, strict=True)
        )
        self.widths = outs  # of what comes out at each size, the finest first

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return self.levels(features)[0]

    def levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """What comes out at each size, the finest first."""
        found, levels = features[-1], list[Tensor]()
        for join, skip in zip(reversed(self.joins), reversed(features[:-1]), strict=True):
            found = F.interpolate(found, skip.shape[-2:], mode="nearest")
            found = join(torch.cat([found, skip], 1))
            levels.insert(0, found)
        return levels
