"""Losses as functions: (logits, labels) -> one number per image, which an attack raises.

Segmenters give one number per pixel first; pixels with the label 255 get no gradient, and the rest are averaged over
the image. A new loss is one function with the decorator.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.errors import UserError, did_you_mean
from vallum.images import IGNORE

Loss = Callable[..., Tensor]  # (logits, labels) and perhaps options by name
GuidedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # (logits, labels, aims)
SteadyLoss = Literal[
    "cross_entropy", "margin", "dlr", "clipped_cross_entropy", "masked_cross_entropy", "balanced_cross_entropy",
    "jensen_shannon", "cosine_cross_entropy", "normalised_logit",
]  # fmt: skip
LossName = Literal[SteadyLoss, "segpgd_cross_entropy"]  # this one changes from step to step
AWAY_ONLY = (  # where the label is a target they say nothing: they look at what is still right
    *("clipped_cross_entropy", "masked_cross_entropy", "balanced_cross_entropy", "cosine_cross_entropy"),
    *("normalised_logit", "segpgd_cross_entropy"),
)
TRIFLE = 1e-20
LOSSES: dict[str, Loss] = {}
GUIDED_LOSSES: dict[str, GuidedLoss] = {}


def averaged(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A loss that is written per image, or per pixel, (N, K, ...) -> (N, ...), as one number per image."""

    @functools.wraps(function)
    def per_image(logits: Tensor, labels: Tensor, *aims: Tensor, **options: float) -> Tensor:
        reward: Tensor | None = getattr(logits, "reward", None)
        values = plain(logits, labels, *aims, **options)
        return values if reward is None else values + reward

    def plain(logits: Tensor, labels: Tensor, *aims: Tensor, **options: float) -> Tensor:
        if logits.dtype in (torch.bfloat16, torch.float16):  # too coarse for the probability of a sure answer
            logits = logits.float()
        if labels.ndim == 1:
            return function(logits, labels, *aims, **options)
        valid = labels != IGNORE
        classes = (target.where(valid, 0) for target in (labels, *aims))
        values = function(logits, *classes, **options).where(valid, 0)  # (N, H, W)
        return values.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp_min(1)

    return per_image


def rewarded(logits: Tensor, reward: Tensor) -> Tensor:
    """Logits that carry what an attacker is to raise beside any loss of them, a number for each image.

    So a defence says on a surface of its own how it can be talked round: by images, say, that please its tasks.

    >>> logits = rewarded(torch.zeros(2, 4), torch.tensor([0.0, 5.0]))
    >>> margin(logits, torch.tensor([1, 1]))
    tensor([0., 5.])
    """
    logits.reward = reward  # type: ignore[attr-defined]
    return logits


def loss(function: Loss) -> Loss:
    """Register a loss that is written per image or per pixel."""
    LOSSES[function.__name__] = averaged(function)
    return LOSSES[function.__name__]


def _guided(function: GuidedLoss) -> GuidedLoss:
    """Register a loss that leads away from the label and towards another class."""
    name = function.__name__.removeprefix("towards_")
    GUIDED_LOSSES[name] = averaged(function)
    return GUIDED_LOSSES[name]


@loss
def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Minus the log-probability of the label, a share of which may be spread over all classes."""
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


@averaged
def _unsaturated(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of a classifier as attacks raise it: never so sure of an answer that no slope is left.

    It is the softplus of what the other classes together lead by. In float32 the softmax of a sure answer is 1, and
    its gradient 0 or lopsided, long before that lead loses its own; a trifle of the lead itself keeps its direction.
    """
    if logits.ndim > 2:  # pixels that are not sure point the way
        return F.cross_entropy(logits, labels, reduction="none")
    own = logits.gather(1, labels[:, None])[:, 0]
    lead = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1) - own
    return F.softplus(lead) + TRIFLE * lead


LOSSES["cross_entropy"] = _unsaturated  # training has no use for the slope of what it has learnt


@loss
def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best other logit exceeds the label's: positive once the image has fallen."""
    return _lead(logits, labels)


@loss
def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """The margin over the distance from the first logit to the third: the same whatever the logits are scaled by.

    Of two logits nothing is left once shift and scale are taken away; there it is the margin.
    """
    return _over(_lead(logits, labels), _spread(logits, (2,)))


@loss
def clipped_cross_entropy(logits: Tensor, labels: Tensor, most: float = -math.log(0.2)) -> Tensor:
    """Cross-entropy that pays no more once the label's probability is below a fifth: no image outshouts the others."""
    return F.cross_entropy(logits, labels, reduction="none").clamp_max(most)


@_guided
def towards_margin(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """By how much the logit of the class aimed at exceeds the label's."""
    return _lead_of(aims, logits, labels)


@_guided
def towards_dlr(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """The same over the distance from the first logit to the mean of the third and the fourth, as far as there are."""
    return _over(_lead_of(aims, logits, labels), _spread(logits, (2, 3)))


@_guided
def towards_cross_entropy(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """The log-probability of the class aimed at."""
    return -F.cross_entropy(logits, aims, reduction="none")


def _lead(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])[:, 0]
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - own


def _lead_of(aims: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    aimed, own = logits.gather(1, torch.stack([aims, labels], 1)).unbind(1)
    return aimed - own


def _spread(logits: Tensor, places: tuple[int, ...]) -> Tensor | None:
    """From the highest logit to the mean of those at `places` in descending order, as far as there are any."""
    there = [place for place in places if place < logits.shape[1]]
    if not there:
        return None
    top = logits.topk(there[-1] + 1, 1)[0]
    return top[:, 0] - sum(top[:, place] for place in there) / len(there)


def _over(values: Tensor, spread: Tensor | None) -> Tensor:
    return values if spread is None else values / (spread + 1e-12)


def at_progress(loss: Loss, progress: float) -> Loss:
    """The loss as it is at this share of an attack's steps, 0 at the first: most are the same all along."""
    return functools.partial(loss, progress=progress) if _moves(loss) else loss


@functools.cache
def _moves(loss: Loss) -> bool:
    return "progress" in inspect.signature(loss).parameters


def loss_named(name: str) -> Loss:
    if name not in LOSSES:
        raise UserError(f"no loss is called {name!r}", remedy=did_you_mean(name, LOSSES))
    return LOSSES[name]


def guided_loss_named(name: str) -> GuidedLoss:
    if name not in GUIDED_LOSSES:
        raise UserError(f"no loss towards a class is called {name!r}", remedy=did_you_mean(name, GUIDED_LOSSES))
    return GUIDED_LOSSES[name]


def fallen(logits: Tensor, labels: Tensor, targeted: bool, share: float = 1.0) -> Tensor:
    """(N,) whether the attacker has all that is wanted of an image: wrong, or on target.

    Of a mask that is so once this `share` of its labelled pixels is. No answer is no fall: where the highest logit is
    NaN or infinite, nobody has decided for another class.
    """
    return judged(logits, labels, targeted, share)[0]


def judged(logits: Tensor, labels: Tensor, targeted: bool, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """(N,) whether an image has fallen, and whether there is an answer at all, in each pixel that has a label."""
    says = logits.argmax(1)  # of a NaN where there is one
    answered = logits.gather(1, says[:, None])[:, 0].isfinite()
    hit = says == labels
    wanted = (hit if targeted else ~hit) & answered
    if labels.ndim == 1:
        return wanted, answered
    valid = labels != IGNORE
    whole = (answered | ~valid).flatten(1).all(1)
    if share == 1:
        return (wanted | ~valid).flatten(1).all(1), whole
    return (wanted & valid).flatten(1).sum(1) >= valid.flatten(1).sum(1) - spared(valid, share), whole


def spared(valid: Tensor, share: float) -> Tensor:
    """(N,) how many labelled pixels may stay as they are where this share of them has to fall."""
    return (valid.flatten(1).sum(1) * (1 - share) + 1e-6).floor().long()  # a hair more: 1 - 0.99 is no hundredth
