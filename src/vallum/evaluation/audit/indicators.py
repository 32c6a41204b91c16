"""Signs that an attack failed of itself, Pintor et al. 2022 (arXiv 2106.09947), read off its own course.

The attack is run once more to its last step, and each point that it asks about is noted. That it fails even where
everything is allowed is the last column of the strength against eps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.defences.stand_ins import StandIn
from vallum.defences.surface import carried_over
from vallum.evaluation.audit.check import Seen, by_share, check, percent, worst
from vallum.evaluation.audit.subject import Found, Subject
from vallum.images import IGNORE
from vallum.models.model import Model

SEEDS = 3
WIDE = 0.5  # of the way that the attack moved the margin
LAST = 0.25  # of the steps
STILL_RISING = 0.1  # of all that the loss rose, in those last steps


class Watched(StandIn):
    """The same model; it notes the loss and the share of right answers of each image at each call."""

    def __init__(self, model: Model, labels: Tensor) -> None:
        super().__init__(model)
        self.labels = labels
        self.losses: list[Tensor] = []
        self.accuracy: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        told = logits.detach()
        loss = F.cross_entropy(told, self.labels, reduction="none", ignore_index=IGNORE)
        right = (told.argmax(1) == self.labels) | (self.labels == IGNORE)
        self.losses.append(loss.view(len(images), -1).mean(1))
        self.accuracy.append(right.view(len(images), -1).double().mean(1))
        return logits


class Course:
    """What an attack went through on each white-box surface, and what came of it."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.found: list[Found] = []
        self.losses: list[Tensor] = []  # of each surface: (calls, N)
        self.reached: list[Tensor] = []  # of each surface: (N,) the least accuracy at any call
        threat = carried_over(subject.threat(seed=seed))
        assert threat is not None
        for surface in subject.white:
            model = Watched(surface.through, subject.labels)
            self.found.append(subject.run(threat, replace(surface, through=model)))
            self.losses.append(torch.stack(model.losses))
            self.reached.append(torch.stack(model.accuracy).amin(0))


def course(subject: Subject, seed: int = 0) -> Course:
    return subject.recall(("course", seed), lambda: Course(subject, seed))


@check("silent success", 3.0)
def silent(subject: Subject) -> Seen:
    """The attack passed an image that the model gets wrong, and hands over one that it gets right."""
    taken = course(subject)
    met = torch.zeros(len(subject), dtype=torch.bool, device=subject.images.device)
    for found, reached in zip(taken.found, taken.reached, strict=True):
        met |= found.accuracy - reached > (0.4 if subject.classify else 0.1)
    best = subject.worst(iter(taken.found))
    lost = int((met & (best.accuracy > 0.5)).sum())
    return Seen(
        "each point that the attack asked about, beside what became of the one that it returned",
        f"{lost} of {len(subject)} were broken on the way, and stand at the end",
        by_share(lost, len(subject)),
        "what the attack met is not what judges it: chance or state decides; attack the expectation over draws",
    )


@check("course of the loss", 0.1)
def rising(subject: Subject) -> Seen:
    """A loss that never rises shows a search that stands still, one that rises to the end a search cut short."""
    taken = course(subject)
    stands = subject.worst(iter(taken.found)).accuracy > 0.5
    flat, short = stands.clone(), stands.clone()
    for losses in taken.losses:  # (calls, N)
        early = losses[: max(2, round(len(losses) * (1 - LAST)))]
        rise = losses.amax(0) - losses[0]
        still = losses.amax(0) - early.amax(0)
        flat &= rise <= 1e-6 * losses.abs().amax(0).clamp_min(1)
        short &= still > STILL_RISING * rise
    short &= ~flat
    still_flat, cut = int(flat.sum()), int(short.sum())
    return Seen(
        "the loss at each step of the attack, run to its end",
        f"of {int(stands.sum())} that stand: for {still_flat} it never rises, for {cut} it still rises in the last "
        "quarter of the steps",
        worst(by_share(still_flat, len(subject)), by_share(cut, len(subject))),
        "the search stands still: see the gradient checks"
        if still_flat >= cut
        else f"more than {subject.steps} steps are needed",
    )


@check("candidate spread", 6.0)
def spread(subject: Subject) -> Seen:
    """Where the gradient leads somewhere, searches from several starts come to points that are about equally bad."""
    found = [subject.worst(iter(course(subject, seed).found)) for seed in range(SEEDS)]
    margins = torch.stack([one.margin for one in found])  # (SEEDS, N)
    rise = margins.mean(0) - subject.judge(subject.images).margin
    wide = margins.amax(0) - margins.amin(0) > WIDE * rise.clamp_min(0)
    wide &= found[0].accuracy > 0  # how far an image has fallen is no matter
    typical = float(((margins.amax(0) - margins.amin(0)) / rise.clamp_min(1e-12)).median())
    return Seen(
        f"the margins of what {SEEDS} starts led to, beside how far the attack moved them",
        f"they differ by {percent(typical)} of the way for the median image, and by more than {percent(WIDE)} for "
        f"{int(wide.sum())} of {len(subject)} that the attack left standing",
        by_share(int(wide.sum()), len(subject)),
        "where the search ends is left to chance: more restarts, and a surface with a gradient that leads somewhere",
    )
