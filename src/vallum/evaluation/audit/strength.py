"""An attack that works gets stronger with its radius, and no stronger with more steps or another start."""

from __future__ import annotations

import torch
from torch import Tensor

from vallum.evaluation.audit.check import Seen, by_share, check, percent, worst
from vallum.evaluation.audit.subject import Found, Subject
from vallum.images import IGNORE

SEEDS = 3
TIMES = (0.5, 1.0, 2.0, 4.0)  # eps


@check("strength against eps", 3.0)
def against_eps(subject: Subject) -> Seen:
    """Where everything is allowed each image can become every other; and what a ball holds, a larger ball holds.

    So each image that stands although one of the others would be answered otherwise, and each that falls in a ball and
    stands in a larger one, is one where the search failed for certain, whatever the model.
    """
    radii = [subject.eps * times for times in TIMES if subject.eps * times < subject.whole] + [subject.whole]
    found = [subject.attacked(eps=eps) for eps in radii]
    lost = torch.zeros(len(subject), dtype=torch.bool, device=subject.images.device)
    for place, larger in enumerate(found):
        for smaller in found[:place]:
            lost |= subject.missed(smaller, larger)
    others = Found(subject.images, _of_others(subject), found[-1].margin)
    standing = subject.missed(others, found[-1])
    rates = ", ".join(f"{radius(eps, subject)}: {percent(one.left)}" for eps, one in zip(radii, found, strict=True))
    verdict = worst(by_share(int(standing.sum()), len(subject)), by_share(int(lost.sum()), len(subject)))
    return Seen(
        "the attack at half to four times the radius, and at one that holds every image",
        f"accuracy {rates}; {int(standing.sum())} of {len(subject)} stand where any image is allowed, "
        f"{int(lost.sum())} fall in a ball and stand in a larger one",
        verdict,
        "the search fails where success is certain: look at the gradient checks first, then give it more steps",
    )


def _of_others(subject: Subject) -> Tensor:
    """(N,) how right the model would be about each image if it were the one of the others that suits it least."""
    said, labels = subject.answer(subject.clone(), subject.images).argmax(1), subject.labels
    rows = []
    for label in labels:  # () or (H, W)
        valid = (label != IGNORE).expand_as(said)
        right = ((said == label) & valid).view(len(said), -1).double().sum(1)
        rows.append((right / valid.view(len(said), -1).sum(1).clamp_min(1)).amin())
    return torch.stack(rows)


@check("strength against steps", 5.0)
def against_steps(subject: Subject) -> Seen:
    """Four times the steps should find hardly anything that was missed."""
    counts = [max(1, subject.steps // 4), subject.steps, 4 * subject.steps]
    found = [subject.attacked(steps=steps) for steps in counts]
    late = int(subject.missed(found[2], found[1]).sum())
    early = int(subject.missed(found[0], found[2]).sum())
    rates = ", ".join(f"{steps} steps: {percent(one.left)}" for steps, one in zip(counts, found, strict=True))
    return Seen(
        f"the attack with {counts[0]}, {counts[1]} and {counts[2]} steps",
        f"accuracy {rates}; {late} of {len(subject)} fall to {counts[2]} steps alone, {early} to {counts[0]} steps and "
        f"not to {counts[2]}",
        worst(by_share(late, len(subject)), by_share(early, len(subject))),
        f"{subject.steps} steps are too few here: attack with {counts[2]} or with strong",
    )


@check("restarts", 2.0)
def restarts(subject: Subject) -> Seen:
    """Starts that are drawn anew should end with the same images fallen."""
    found = [subject.attacked(seed=seed) for seed in range(SEEDS)]
    union = subject.worst(iter(found))
    missed = [int(subject.missed(union, one).sum()) for one in found]
    rates = ", ".join(percent(one.left) for one in found)
    return Seen(
        f"the attack from {SEEDS} random starts",
        f"accuracy {rates}; {percent(union.left)} under the worst of them for each image; one start alone misses up to "
        f"{max(missed)} of {len(subject)}",
        by_share(max(missed), len(subject)),
        "the search depends on where it starts: attack with restarts=5 and report the worst for each image",
    )


def radius(eps: float, subject: Subject) -> str:
    """As one would write it on the command line."""
    from vallum.specs import write_value

    return "everything allowed" if eps == subject.whole else f"eps {write_value(eps)}"
