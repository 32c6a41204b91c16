"""What a universal perturbation is to do, as a number per image that is raised, and how it is told that it does it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.errors import UserError, did_you_mean
from vallum.images import IGNORE
from vallum.threats.losses import averaged, clipped_cross_entropy, cross_entropy
from vallum.threats.segmentation_losses import balanced_cross_entropy

SURE = 0.75  # an image, or a pixel, that shows the target with this probability is left alone
BOUND = 10.0  # the margin by which an image may have fallen and still be pushed further


@dataclass(frozen=True)
class Goal:
    """`raised(logits, labels, clean)` is what the search raises, (n,); `clean` are the unperturbed answers.

    `failure(answers, labels, clean)` is the share of each image, (n,), at which the goal is missed: what the attacker
    lowers, and what candidates are chosen by.
    """

    name: str
    raised: Callable[[Tensor, Tensor, Tensor], Tensor]
    failure: Callable[[Tensor, Tensor, Tensor], Tensor]
    needs_clean: bool = False


def accuracy_left(answers: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
    """(n,) the share of each image that is still right."""
    if labels.ndim == 1:
        return (answers == labels).double()
    valid = labels != IGNORE
    return ((answers == labels) & valid).flatten(1).sum(1).double() / valid.flatten(1).sum(1).clamp_min(1)


@averaged
def bounded_margin(logits: Tensor, labels: Tensor) -> Tensor:
    lead = logits.scatter(1, labels[:, None], -torch.inf).amax(1) - logits.gather(1, labels[:, None])[:, 0]
    return lead.clamp_max(BOUND)


@averaged
def nearness(logits: Tensor, aims: Tensor) -> Tensor:
    """Log-probability of the aim, as far as it is short of sure: what is there already pulls no longer."""
    return (-F.cross_entropy(logits, aims, reduction="none")).clamp_max(math.log(SURE))


def away(name: str) -> Goal:
    """Wrong answers, whichever: by clipped cross-entropy, so that none outshouts the others, or by another loss."""
    losses: dict[str, Any] = {
        "clipped": clipped_cross_entropy,
        "cross_entropy": cross_entropy,
        "margin": bounded_margin,
        "balanced": balanced_cross_entropy,
    }
    loss = losses[name]
    return Goal(name, lambda logits, labels, clean: loss(logits, labels), accuracy_left)


def towards(target: int, *, counts: bool = False) -> Goal:
    """One class as the answer to everything; `counts`: that is the aim itself, not a way to wrong answers."""

    def raised(logits: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
        aims = torch.where(labels == IGNORE, IGNORE, target) if labels.ndim > 1 else torch.full_like(labels, target)
        values = nearness(logits, aims)
        return values if labels.ndim > 1 else values * (labels != target)

    def missed(answers: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
        other = (labels != target) & ((labels != IGNORE) if labels.ndim > 1 else torch.ones_like(labels).bool())
        wrong = ((answers != target) & other).flatten(1) if labels.ndim > 1 else ((answers != target) & other)[:, None]
        return wrong.sum(1).double() / (other.flatten(1) if labels.ndim > 1 else other[:, None]).sum(1).clamp_min(1)

    return Goal(f"towards {target}", raised, missed if counts else accuracy_left)


def scene(shown: Tensor) -> Goal:
    """Every image shall be taken for one scene, whose labels are `shown`, (H, W): Metzen et al. 2017."""

    def aims(labels: Tensor) -> Tensor:
        return shown.to(labels.device).expand(labels.shape)

    def missed(answers: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
        return 1 - accuracy_left(answers, aims(labels), clean)

    def short(answers: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
        return missed(answers, labels, clean)

    return Goal("scene", lambda logits, labels, clean: nearness(logits, aims(labels)), short)


def hide(hidden: int, weight: float = 0.9) -> Goal:
    """Nothing of one class shall be seen, and all else as before: its pixels take the nearest other answer."""

    def raised(logits: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
        gone = clean == hidden  # (n, H, W)
        values = (-F.cross_entropy(logits.float(), filled(clean, hidden), reduction="none")).clamp_max(math.log(SURE))
        one, other = (_mean(values, mask) for mask in (gone, ~gone))
        return weight * one + (1 - weight) * other

    def missed(answers: Tensor, labels: Tensor, clean: Tensor) -> Tensor:
        gone = clean == hidden
        left, spoilt = ((answers == hidden) & gone), ((answers != clean) & ~gone)
        return weight * _mean(left.double(), gone) + (1 - weight) * _mean(spoilt.double(), ~gone)

    return Goal(f"hide {hidden}", raised, missed, needs_clean=True)


def filled(answers: Tensor, hidden: int) -> Tensor:
    """(n, H, W) the answers, with the nearest other one in place of the class that is to be hidden."""
    from scipy.ndimage import distance_transform_edt

    whole = answers.clone()
    for row, image in enumerate(answers.cpu().numpy()):
        gone = image == hidden
        if gone.any() and not gone.all():
            down, right = distance_transform_edt(gone, return_distances=False, return_indices=True)
            whole[row] = torch.from_numpy(image[down, right]).to(answers)
    return whole


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp_min(1)


def class_number(name: str, classes: tuple[str, ...] | None) -> int:
    """The number of a class that is named, or said as a number."""
    known = classes or ()
    if name in known:
        return known.index(name)
    if name.isdigit() and (not known or int(name) < len(known)):
        return int(name)
    raise UserError(f"no class is called {name!r}", remedy=did_you_mean(name, known))
