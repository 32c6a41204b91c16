"""What searches for the nearest image that falls have in common: no radius, the smallest change found per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats.base import Threat
from vallum.threats.losses import fallen, spared
from vallum.threats.norms import Norm
from vallum.threats.search import overlay

ROUNDING = 2e-6  # of the largest logit: the nearest image lies on the border, and must lie on the far side of it
SHARE = "of a mask's labelled pixels: an image has fallen once so many of them have; a classifier has no masks"


class Minimal(Threat):
    """An attack that looks for the smallest change that makes an image fall, and leaves it alone if it finds none.

    Of a mask the last few pixels may be beyond any change; it has fallen once the attack's `share` of them has.
    """

    kind: ClassVar[Literal["attack"]] = "attack"
    needs_gradient: ClassVar[bool] = True
    steps: int
    share: float

    def __post_init__(self) -> None:
        if not 0 < getattr(self, "share", 1.0) <= 1:
            raise UserError(f"share={self.share:g}", "above 0 and at most 1", "write share=0.99")
        for name in ("steps", "queries"):
            if getattr(self, name, 1) < 1:
                raise UserError(f"{name}={getattr(self, name)}", "at least 1 is needed")

    @property
    def passes(self) -> float:
        return 3.0 * self.steps - 2

    def begin(self, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None, norm: Norm) -> Nearest:
        """Nothing found yet; copies of what was given, for it may be inference tensors."""
        self.draws(images, keys)  # says so if there is not one key for each image
        return Nearest(images, labels.clone(), self.targeted, norm, self.share)


class Nearest:
    """For each image the nearest candidate that made it fall, and how far away it is."""

    def __init__(self, images: Tensor, labels: Tensor, targeted: bool, norm: Norm, share: float = 1.0) -> None:
        self.images, self.clean = images.detach().clone(), images.detach().clone()
        self.labels, self.targeted, self.norm, self.share = labels, targeted, norm, share
        self.low, self.high = -self.clean, 1 - self.clean
        self.valid = torch.ones_like(labels, dtype=torch.bool) if labels.ndim == 1 else labels != IGNORE
        self.known = labels.where(self.valid, 0)[:, None]  # (N, 1) or (N, 1, H, W) with a class for what is ignored
        self.distance = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
        self.length = torch.zeros_like(self.distance)  # how far away the last candidates were

    def offer(self, candidates: Tensor, logits: Tensor) -> Tensor:
        """One candidate for each image; says which fall, and would where sums round otherwise."""
        trifle = ROUNDING * logits.detach().abs().amax(1, keepdim=True)
        logits = logits.scatter_add(1, self.known, -trifle if self.targeted else trifle)
        falls = fallen(logits, self.labels, self.targeted, self.share)
        self.length = self.norm.length(candidates - self.clean)
        nearer = falls & (self.length < self.distance)
        overlay(self.images, candidates, nearer)
        self.distance = torch.where(nearer, self.length, self.distance)
        return falls

    @torch.no_grad()
    def wanted(self, logits: Tensor) -> Tensor:
        """The labels that a loss should look at: of a mask those of the pixels that have to fall and have not yet.

        Pixels that are lost already would shout loudest, and the hardest of those that stand may go on standing.
        """
        if self.labels.ndim == 1:
            return self.labels
        own = logits.gather(1, self.known)[:, 0]
        lead = own - logits.scatter(1, self.known, -torch.inf).amax(1)  # (N, H, W)
        lacks = -lead if self.targeted else lead
        stands = self.valid & ((logits.argmax(1) == self.labels) != self.targeted)
        order = lacks.masked_fill(~stands, -torch.inf).flatten(1).sort(1, descending=True)[0]
        hardest = order.gather(1, spared(self.valid, self.share)[:, None].clamp_max(order.shape[1] - 1)).unsqueeze(2)
        return self.labels.where(stands & (lacks <= hardest), IGNORE)


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """From the first value to the last along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
