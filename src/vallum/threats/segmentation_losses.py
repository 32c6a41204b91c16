"""Losses made for segmenters, per pixel: where plain cross-entropy lets pixels that are lost already shout loudest.

Masked and balanced cross-entropy and Jensen-Shannon are those of SEA, Croce et al. 2024 (arXiv 2306.12941), the
normalised logit an earlier one of theirs (their logit correlation); the cosine weights are those of CosPGD, Agnihotri
et al. 2024 (arXiv 2302.02213), the shifting ones those of SegPGD, Gu et al. 2022 (arXiv 2207.12391). All work for
classifiers too, where an image is one pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats.losses import AWAY_ONLY, LOSSES, Loss, loss, margin

TINY = 1e-12
FOUND = 0.4  # the usual overlap of a class while under attack


@loss
def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the pixels that are still right."""
    return F.cross_entropy(logits, labels, reduction="none") * _right(logits, labels)


@loss
def jensen_shannon(logits: Tensor, labels: Tensor) -> Tensor:
    """The divergence of prediction and label: bounded, and flat where the label's probability is gone already."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    own = p.gather(1, labels[:, None])[:, 0]
    # With m = (p + onehot) / 2 every class but the label's adds p log 2 to KL(p, m), and nothing to KL(onehot, m).
    halves = ((own + 1) / 2).log()
    own_part = own * (log_p.gather(1, labels[:, None])[:, 0] - halves)
    others_part = (1 - own) * torch.log(torch.tensor(2.0, dtype=p.dtype, device=p.device))
    return (own_part + others_part - halves) / 2


@loss
def cosine_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy weighted by how well the prediction is aligned with the label, the weight held fixed."""
    p = logits.detach().softmax(1)
    weight = p.gather(1, labels[:, None])[:, 0] / p.square().sum(1).sqrt().clamp_min(TINY)
    return F.cross_entropy(logits, labels, reduction="none") * weight


@loss
def normalised_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the label's logit over the length of all, of the pixels that are still right."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return -own / logits.square().sum(1).sqrt().clamp_min(TINY) * _right(logits, labels)


@loss
def segpgd_cross_entropy(logits: Tensor, labels: Tensor, progress: float = 0.0) -> Tensor:
    """Cross-entropy of the pixels that are still right at first; more and more of those that are wrong, half at last.

    `progress` is the share of the steps that lies behind.
    """
    right, wrong = 1 - progress / 2, progress / 2
    weight = wrong + (right - wrong) * _right(logits, labels)
    return F.cross_entropy(logits, labels, reduction="none") * weight


def balanced_cross_entropy(logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
    """Masked cross-entropy in which each class that occurs in an image weighs the same, however few its pixels.

    With `shares`, (K,), how common each class is elsewhere, a pixel weighs the more the rarer its class is, as SEA
    weighs it by a training set; an attacker who knows one image only has that image.
    """
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    if labels.ndim == 1:
        return masked_cross_entropy(logits, labels)
    valid = labels != IGNORE
    known = labels.where(valid, 0)
    values = (F.cross_entropy(logits, known, reduction="none") * _right(logits, known)).where(valid, 0).flatten(1)
    counts = torch.zeros(len(logits), logits.shape[1], device=logits.device, dtype=logits.dtype)
    if shares is None:
        counts.scatter_add_(1, known.flatten(1), valid.flatten(1).to(logits.dtype))
    else:
        counts += shares.to(counts).where(shares > 0, torch.inf) * labels[0].numel()  # of share 0: they do not count
    weights = 1 / counts.clamp_min(1 if shares is None else 0).gather(1, known.flatten(1))
    return (values * weights).sum(1) / (counts > 0).sum(1).clamp_min(1)


LOSSES[balanced_cross_entropy.__name__] = balanced_cross_entropy  # which averages over an image by itself


def wrong_share(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) the share of the pixels with a label that are wrong: what an attack on segmentation is after."""
    valid = labels != IGNORE
    wrong = ((logits.argmax(1) != labels) & valid).flatten(1).sum(1).double()
    return wrong / valid.flatten(1).sum(1).clamp_min(1)


def lost_overlap(logits: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
    """(N,) one minus the image's own mIoU, over the classes that its labels hold.

    With `shares`, (K,), it is that of the image together with one more, which holds the usual share of each class and
    of which some are found: what the image does to the mIoU of a set. Of a class that is common elsewhere five pixels
    are then a trifle, and to see a rare one where there is none counts too.
    """
    valid = labels != IGNORE
    truth, said = labels.where(valid, 0).flatten(1), logits.argmax(1).flatten(1)
    counted = valid.flatten(1).double()

    def per_class(which: Tensor, weights: Tensor) -> Tensor:
        return torch.zeros(len(logits), logits.shape[1], dtype=torch.float64, device=logits.device).scatter_add_(
            1, which, weights
        )

    there = per_class(truth, counted)
    both = per_class(truth, counted * (truth == said))
    either = there + per_class(said, counted) - both
    if shares is not None:
        if len(shares) != logits.shape[1]:
            raise UserError(f"{len(shares)} shares for {logits.shape[1]} classes", "one for each is needed")
        usual = shares.to(both) * counted.sum(1, keepdim=True)  # (N, K)
        return 1 - ((both + FOUND * usual) / (either + usual).clamp_min(TINY))[:, shares > 0].mean(1)
    return 1 - (both / either.clamp_min(1)).sum(1) / (there > 0).sum(1).clamp_min(1)


def rank_of(name: str) -> Loss | None:
    """By what the points of a climb on this loss are compared, where the loss cannot say: the more it has achieved, the
    fewer pixels it counts, and it falls. None where the higher point is the better one."""
    if name not in AWAY_ONLY or name == "clipped_cross_entropy":
        return None
    return lambda logits, labels: wrong_share(logits, labels) if labels.ndim == 3 else margin(logits, labels)


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).to(logits.dtype)
