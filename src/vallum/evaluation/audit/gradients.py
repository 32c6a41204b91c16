"""Whether the gradient that attacks follow is there, and whether it is that of what the model computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.defences.base import Defence
from vallum.evaluation.audit.check import Seen, Verdict, by_share, check, percent
from vallum.evaluation.audit.stops import stops
from vallum.evaluation.audit.subject import Subject
from vallum.images import Draws
from vallum.threats.losses import cross_entropy, margin

NODES = 16  # on each path
APART = 0.25  # the share of the variance of the answers' changes that the gradient may leave unexplained
MOST = 32  # images


@check("zero gradients", 0.3)
def zero(subject: Subject) -> Seen:
    """An attack stands still where the gradient of its loss is exactly zero, or not a number."""
    places = [subject.images, subject.noise(0), subject.noise(1)]

    def share(score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, int]:
        """Images where no surface has a gradient at some place, the largest norms, and how many are not finite."""
        norms, broken = [], 0
        for surface in subject.white:
            for place in places:
                found = subject.gradient(surface.through, place, score).double().flatten(1)
                broken += int((~found.isfinite()).any(1).sum())
                norms.append(found.nan_to_num().norm(dim=1))
        by_place = torch.stack(norms).view(len(subject.white), len(places), -1).amax(0)  # (places, N)
        return (by_place == 0).any(0), by_place[0], broken

    gone, norms, broken = share(lambda logits: cross_entropy(logits, subject.labels))
    without_softmax, _, _ = share(lambda logits: margin(logits, subject.labels))
    logits = subject.answer(subject.model, subject.images)
    flat = logits.flatten(2).mean(2) if logits.ndim > 2 else logits
    lead = float((flat.amax(1) - flat.amin(1)).median())
    few = float(norms.min()), float(norms.median()), float(norms.max())
    zeros, saturated = int(gone.sum()), int((gone & ~without_softmax).sum())
    said = (
        f"exactly zero for {zeros} of {len(subject)} images; norms from {few[0]:.2g} over {few[1]:.2g} to "
        f"{few[2]:.2g}; logits span {lead:.3g}"
    )
    if saturated:
        said += f"; for {saturated} the margin has a gradient where cross-entropy has none"
    if broken:
        said += f"; {broken} hold NaN or infinity"
    remedy = "attack through a surface whose gradient passes what blocks it (BPDA), and with a black box"
    if saturated > zeros / 2:
        remedy = (
            "the logits are so large that the softmax saturates: attack with loss=margin or loss=dlr, or divide them"
        )
    verdict: Verdict = by_share(max(zeros, broken), len(subject))
    if verdict == "passed" and zeros + broken:
        verdict = "doubtful"
    return Seen(
        "the gradient of cross-entropy at each image and at two random points around it, on every white-box surface",
        said, verdict, remedy,
    )  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How well autograd's gradient explains the way that answers change."""

    unexplained: Tensor  # (N,) share of the squared changes, over paths
    apart: int  # images where it is more than may be

    @property
    def holds(self) -> bool:
        return by_share(self.apart, len(self.unexplained)) == "passed"


def agreement(subject: Subject) -> Agreement:
    few = subject.part(MOST)
    return few.recall("agreement", lambda: _agreement(few))


def _agreement(subject: Subject) -> Agreement:
    """Along a path the gradient adds up to the change of the answer, for everything without jumps, kinks or no kinks.

    The paths are as long as the attack may go: two in random directions, one to what the attack found. The integral is
    taken with the midpoint rule; what is asked for is far more than its error: it must explain three quarters of the
    squared changes, so that the gradient points less than 60 degrees away from what the model does.
    """
    classes = subject.answer(subject.model, subject.images[:1]).shape[1]
    wide = (-1, classes, *(1,) * (0 if subject.classify else 2))
    draws = Draws(subject.seed, subject.batch.keys, "audit/score")
    ends = [subject.noise(0), subject.noise(1), subject.attacked().images]
    wrong, all_of_it = torch.zeros(len(subject)).double(), torch.zeros(len(subject)).double()
    for number, end in enumerate(ends):
        weights = draws.normal(classes, purpose=f"weights {number}", device=subject.images.device)
        weights = (weights - weights.mean(1, keepdim=True)).view(wide)

        def score(logits: Tensor, weights: Tensor = weights) -> Tensor:
            return (logits * weights).flatten(1).sum(1)

        step = end - subject.images
        model = subject.clone()
        risen = score(subject.answer(model, end)).double() - score(subject.answer(model, subject.images)).double()
        told = torch.zeros_like(risen)
        for node in range(NODES):
            place = subject.images + step * ((node + 0.5) / NODES)
            slope = subject.gradient(model, place, score)
            told += (slope.double() * step.double()).flatten(1).sum(1) / NODES
        wrong += (risen - told).square().cpu()
        all_of_it += torch.maximum(risen.square(), told.square()).cpu()
    unexplained = torch.where(all_of_it > 0, wrong / all_of_it.clamp_min(1e-300), 0)
    return Agreement(unexplained, int((unexplained > APART).sum()))


@check("gradient against answers", 3.0)
def correctness(subject: Subject) -> Seen:
    """Finite differences against autograd."""
    if not subject.model.differentiable:
        return Seen(
            "autograd was asked for the gradient of the answers", "no graph leads from the answers to the images",
            "passed" if subject.declared else "failed",
            "declare a Defence whose stand-ins have a gradient; a black box alone says little",
        )  # fmt: skip
    few = subject.part(MOST)
    found = agreement(few)
    median, most = (float(v) for v in (found.unexplained.median(), found.unexplained.max()))
    said = (
        f"it leaves {percent(median)} of the change unexplained for the median image and {percent(most)} for the "
        f"worst; more than {percent(APART)} for {found.apart} of {len(few)}"
    )
    inexact = isinstance(subject.model, Defence) and not exact(subject.model)
    if inexact:
        said += "; declared as not exact, and attacked around it"
    return Seen(
        "the gradient summed along paths to random points and to what the attack found, beside how far the answers "
        "really changed",
        said,
        "passed" if inexact else by_share(found.apart, len(few)),
        "autograd does not see what the model computes (a detached part, rounding, a jump): attack straight through it",
    )


@check("stopped gradients", 0.1)
def stopped(subject: Subject) -> Seen:
    """Where the code of the forward pass cuts what the images pass through out of the graph."""
    few = subject.part(2)
    with few.chance(0):
        places = stops(few.clone(), few.images)
    said = "; ".join(places[:4]) + (f"; and {len(places) - 4} more" if len(places) > 4 else "")
    done = "the forward pass was watched for detach, no_grad, rounding and casts on what comes from the images"
    if not places and subject.model.differentiable:
        return Seen(done, "none", "passed")
    if isinstance(subject.model, Defence) and not exact(subject.model):
        return Seen(done, f"{said or 'no graph'}; declared as not exact, and attacked around it", "passed")
    if places and subject.model.differentiable and agreement(subject).holds:
        return Seen(done, f"{said}; without harm: the gradient explains the answers", "passed")
    return Seen(
        done, said or "no graph leads to the images", "failed", "take them out, or attack straight through them"
    )


def exact(model: Defence) -> bool:
    """Whether every defence of the stack declares an exact gradient."""
    return model.exact_gradient and (not isinstance(model.model, Defence) or exact(model.model))
