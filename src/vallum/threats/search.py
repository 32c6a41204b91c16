"""What iterative attacks share: the best found so far for each image, and a model that is only looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vallum.threats.eased import eased
from vallum.threats.losses import fallen, judged
from vallum.threats.segmentation_losses import wrong_share


class Best:
    """For each image the best candidate offered: one that makes it fall before one that does not, then higher loss.

    It starts with the image itself, at a loss below any other, so that an attack returns something for every image.
    A candidate to which the model has no answer, its logits being NaN or infinite, is never kept.
    Where the search runs on something faster than the model, `judge` is the model, and has the last word on a fall.
    Where the loss that is climbed does not say how good a candidate is, `rank` (logits, labels) -> (n,) does: of masks,
    unless something else is given, the share of the labelled pixels that are wrong, or on target.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        targeted: bool,
        judge: Callable[[Tensor], Tensor] | None = None,
        rank: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.judge, self.rank = judge, rank
        if rank is None and labels.ndim == 3:
            self.rank = _on_target if targeted else wrong_share
        self.images = images.detach().clone()
        self.labels, self.targeted = labels, targeted
        precision = torch.promote_types(images.dtype, torch.float32)  # that of the losses it will be compared with
        self.loss = torch.full((len(images),), -torch.inf, dtype=precision, device=images.device)
        self.has_fallen = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self._all = torch.arange(len(images), device=images.device)

    def everyone(self) -> Tensor:
        return self._all

    def standing(self) -> Tensor:
        """Indices of the images that no candidate has made fall."""
        return (~self.has_fallen).nonzero()[:, 0] if bool(self.has_fallen.any()) else self._all

    def offer(
        self, which: Tensor, candidates: Tensor, logits: Tensor, loss: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        """Offer one candidate for each image in `which`; says which of them were better than what was there.

        Where pixels were moved, `labels` are those of the candidates, and are kept with them.
        """
        whole = which is self._all  # nothing to look up: most of what an offer would cost beside a small network
        known_labels = self.labels if whole else self.labels[which]
        falls, answered = judged(logits, known_labels if labels is None else labels, self.targeted)
        if self.judge is not None and bool(falls.any()):
            with torch.no_grad():
                falls[falls.clone()] = fallen(self.judge(candidates[falls]), known_labels[falls], self.targeted)
        if self.rank is not None:
            loss = self.rank(logits, known_labels if labels is None else labels)
        held, known = (self.has_fallen, self.loss) if whole else (self.has_fallen[which], self.loss[which])
        better = torch.where(falls == held, loss > known, falls) & answered
        if whole and labels is None:
            overlay(self.images, candidates, better)
            self.loss = torch.where(better, loss.to(known.dtype), known)
            self.has_fallen |= falls
            return better
        taken = which[better]
        self.images[taken] = candidates[better]
        self.loss[taken] = loss[better].to(self.loss.dtype)
        self.has_fallen[taken] = falls[better]
        if labels is not None:
            self.labels[taken] = labels[better]
        return better

    def merge(self, which: Tensor, other: Best) -> Tensor:
        """Take what another search found for the images in `which`, where it found better; says where."""
        held, known = self.has_fallen[which], self.loss[which]
        better = (other.has_fallen & ~held) | ((other.has_fallen == held) & (other.loss > known))
        taken = which[better]
        self.images[taken], self.loss[taken] = other.images[better], other.loss[better]
        self.has_fallen[taken] = other.has_fallen[better]
        return better


def _on_target(logits: Tensor, labels: Tensor) -> Tensor:
    return 1 - wrong_share(logits, labels)


def overlay(into: Tensor, other: Tensor, rows: Tensor) -> None:
    """`into[rows] = other[rows]` for a mask of rows: on a processor several times faster than by indices."""
    wide = rows.view(-1, *(1,) * (into.ndim - 1))
    if into.device.type == "cpu" and math.isfinite(float(other.sum())):
        into.lerp_(other, wide.to(into.dtype))  # with weights of 0 and 1 nothing is rounded
    else:
        into.copy_(torch.where(wide, other, into))


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Gradients flow to the images and to nothing else, even where the caller has switched them off.

    No parameter takes part meanwhile, which saves its share of the backward pass, and batch norm is a scale and a shift
    (see `eased`). What each parameter's requires_grad was is put back, also when the attack is interrupted.
    """
    parameters = [p for p in model.parameters() if p.requires_grad] if isinstance(model, nn.Module) else []
    try:
        for p in parameters:
            p.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad(), eased(model):
            yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
