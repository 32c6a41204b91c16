"""Signs that an attack failed of itself, Pintor et al. 2022 (arXiv 2106.09947), read off its own course.

The attack is run once more to its last step, and each point that it asks about is noted. That it fails even where
everything is allowed is the last column of the strength against eps.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vallum.defences.stand_ins import StandIn
from vallum.defences.surface import carried_over
from vallum.evaluation.audit.check import Seen, Verdict, by_share, check, percent, worst
from vallum.evaluation.audit.subject import Found, Subject
from vallum.images import IGNORE
from vallum.models.model import Model
from vallum.threats.losses import margin

SEEDS = 3
WIDE = 0.5  # of the way that the attack moved the margin
LAST = 0.25  # of the steps
STILL_RISING = 0.1  # of all that the margin rose, in those last steps


class Notes:
    """What each image met at each call; a copy of who takes them notes in the same place."""

    def __init__(self) -> None:
        self.margins: list[Tensor] = []
        self.accuracy: list[Tensor] = []

    def __deepcopy__(self, memo: object) -> Notes:
        return self


class Watched(StandIn):
    """The same model; it notes the margin and the share of right answers of each image at each call.

    The margin and not the loss: that of a sure answer is next to nothing, and rises by as much at each step to the
    last.
    """

    def __init__(self, model: Model, labels: Tensor) -> None:
        super().__init__(model)
        self.labels, self.notes = labels, Notes()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        told = logits.detach()
        right = (told.argmax(1) == self.labels) | (self.labels == IGNORE)
        self.notes.margins.append(margin(told, self.labels))
        self.notes.accuracy.append(right.view(len(images), -1).double().mean(1))
        return logits


class Course:
    """What an attack went through on each white-box surface, and what came of it."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.found: list[Found] = []
        self.margins: list[Tensor] = []  # of each surface: (calls, N)
        self.reached: list[Tensor] = []  # of each surface: (N,) the least accuracy at any call
        threat = carried_over(subject.threat(seed=seed))
        assert threat is not None
        for surface in subject.white:
            model = Watched(surface.through, subject.labels)
            self.found.append(subject.run(threat, replace(surface, through=model)))
            self.margins.append(torch.stack(model.notes.margins))
            self.reached.append(torch.stack(model.notes.accuracy).amin(0))


def course(subject: Subject, seed: int = 0) -> Course:
    return subject.recall(("course", seed), lambda: Course(subject, seed))


@check("silent success", 3.0)
def silent(subject: Subject) -> Seen:
    """The attack passed an image that the model gets wrong, and hands over one that it gets right."""
    taken = course(subject)
    met = torch.zeros(len(subject), dtype=torch.bool, device=subject.images.device)
    for surface, found, reached in zip(subject.white, taken.found, taken.reached, strict=True):
        if subject.known_to_be_random and surface.weight == 1:
            continue  # a single draw is luck, which is why it is attacked in expectation too
        met |= found.accuracy - reached > subject.clear
    best = subject.worst(iter(taken.found))
    lost = int((met & (best.accuracy > 0.5)).sum())
    return Seen(
        "each point that the attack asked about, beside what became of the one that it returned",
        f"{lost} of {len(subject)} were broken on the way, and stand at the end",
        of_chance(subject, by_share(lost, len(subject))),
        "what the attack met is not what judges it: chance or state decides; attack the expectation over draws",
    )


@check("course of the attack", 0.1)
def rising(subject: Subject) -> Seen:
    """A margin that never rises shows a search that stands still, one that rises to the end a search cut short."""
    taken = course(subject)
    stands = subject.worst(iter(taken.found)).accuracy > 0.5
    flat, short = stands.clone(), stands.clone()
    for margins in taken.margins:  # (calls, N)
        early = margins[: max(2, round(len(margins) * (1 - LAST)))]
        rise = margins.amax(0) - margins[0]
        still = margins.amax(0) - early.amax(0)
        flat &= rise <= 1e-6 * margins.abs().amax(0).clamp_min(1)
        short &= still > STILL_RISING * rise
    short &= ~flat
    still_flat, cut = int(flat.sum()), int(short.sum())
    return Seen(
        "by how much another class leads, at each step of the attack, run to its end",
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
        of_chance(subject, by_share(int(wide.sum()), len(subject))),
        "where the search ends is left to chance: more restarts, and a surface with a gradient that leads somewhere",
    )


def of_chance(subject: Subject, verdict: Verdict) -> Verdict:
    """No more than doubtful for a defence that declares its draws: it is judged on fresh ones, and in their mean."""
    return "doubtful" if subject.known_to_be_random and verdict == "failed" else verdict
