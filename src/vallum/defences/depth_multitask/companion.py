"""What is trained beside the segmenter and falls away afterwards, and what it remembers of the labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vallum.data import Clips
from vallum.defences.attack_mode import attack_mode
from vallum.defences.class_weights import ClassShares
from vallum.defences.depth_multitask.feed import Feed
from vallum.defences.depth_multitask.geometry import pinhole
from vallum.defences.depth_multitask.networks import DepthDecoder, PoseNet
from vallum.defences.depth_multitask.sharing import as_input, encoder_of, features_of
from vallum.models.checks import taking
from vallum.models.model import Model

MEMORY = 2e9  # bytes of clips that are kept


class Companion(ClassShares):
    """A decoder of so many maps, and the network that sees motion; neither where no clips are seen."""

    def __init__(self, model: Model, images: Tensor, clips: Clips | None, scales: int, maps: int = 1) -> None:
        super().__init__()
        self.feed = None if clips is None else Feed(clips, MEMORY, images.shape[1])
        if clips is None:
            return
        self.decoder = DepthDecoder(widths_of(model, images), scales, maps)
        self.pose = PoseNet(images.shape[1])
        self.focal = nn.Parameter(torch.zeros(2))  # see focal_in_widths

    def cameras(self, known: Tensor, size: Sequence[int]) -> Tensor:
        """Intrinsics (N, 3, 3); where they are not known, those that are being learnt."""
        learnt = pinhole(focal_in_widths(self.focal), size)
        return torch.where(known.isnan(), learnt, known)


def focal_in_widths(learnt: Tensor) -> Tensor:
    """The focal lengths across and down, in widths of the frame, that are learnt as logarithms of what 0.8 is of them.

    >>> focal_in_widths(torch.zeros(2)).tolist() == torch.full((2,), 0.8).tolist()
    True
    """
    return learnt.exp() * 0.8


def widths_of(model: Model, images: Tensor) -> list[int]:
    """How many channels each of the encoder's features has."""
    with (
        torch.no_grad(),
        taking(model, images),
        attack_mode(model, "eval"),
    ):  # in which nothing is kept of what is looked at
        given = as_input(model, images[:1])
        return [feature.shape[1] for feature in features_of(encoder_of(model)(given), given)]
