"""A model whose answer depends on more than the image: on chance, on what it was asked before, on its neighbours."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from vallum.defences.base import Defence
from vallum.evaluation.audit.check import Seen, Verdict, check
from vallum.evaluation.audit.gradients import agreement, exact
from vallum.evaluation.audit.subject import Subject
from vallum.models import weights_fingerprint
from vallum.models.model import Model

ROUNDING = 1e-4  # of the spread of the logits: what sums in another order may differ by
AGAIN = 20  # near-duplicates that a model is asked about, as an attack would


def apart(one: Tensor, other: Tensor) -> float:
    """The largest difference between two answers, in units of the spread of the first."""
    return float((one - other).abs().max() / one.std().clamp_min(1e-12))


def differ(one: Tensor, other: Tensor) -> int:
    """How many images are answered otherwise than rounding explains."""
    gap = (one - other).abs().flatten(1).amax(1) / one.std().clamp_min(1e-12)
    return int((gap > ROUNDING).sum())


def asked_twice(model: Model, images: Tensor) -> tuple[Tensor, Tensor, list[str]]:
    """Two answers to the same images, and the generators that moved meanwhile."""
    before = _generators()
    with torch.no_grad():
        first = model(images).float()
        moved = [name for name, state in _generators().items() if state != before[name]]
        return first, model(images).float(), moved


def _generators() -> dict[str, bytes]:
    _, numbers, *place = np.random.get_state(legacy=True)
    states = {
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "NumPy's generator": np.asarray(numbers).tobytes() + repr(place).encode(),
        "Python's generator": repr(random.getstate()).encode(),
    }
    if torch.cuda.is_available():
        states["the GPU's generator"] = torch.cuda.get_rng_state().cpu().numpy().tobytes()
    return states


@check("hidden randomness", 0.1)
def randomness(subject: Subject) -> Seen:
    model = subject.clone()
    with subject.chance(0):
        first, second, moved = asked_twice(model, subject.images)
    with subject.chance(1, number=1):  # a defence draws by image and number: the next number, the next draw
        third = model(subject.images).detach().float()
    again = subject.clone()
    same = [subject.answer(again, subject.images, seed=2) for _ in range(2)]
    random_ones = max(differ(first, second), differ(first, third))
    said = f"{random_ones} of {len(subject)} images get another answer the second time"
    said += f"; {' and '.join(moved)} moved" if moved else "; no generator moved"
    if random_ones:
        settled = not differ(*same)
        said += "; with the same seed the answers agree" if settled else "; also with the same seed"
    declared = isinstance(subject.model, Defence) and subject.model.draws_at_random
    verdict: Verdict = "failed" if random_ones else "doubtful" if moved else "passed"
    if declared:
        verdict, said = "passed", f"{said}; declared as drawing at random"
    return Seen(
        "the same images twice, and torch's, NumPy's and Python's generators before and after",
        said, verdict,
        "declare it: a Defence with randomised=True is attacked in expectation and judged on fresh draws",
    )  # fmt: skip


@check("neighbours in the batch", 0.1)
def neighbours(subject: Subject) -> Seen:
    """Batches of one size take the same path through the arithmetic, so that only the neighbours make a difference."""
    images, half = subject.images, len(subject) // 2
    done = "half of a batch with other neighbours (noise, then their own negatives), and images alone"
    if half < 1:
        return Seen(done, "one image has no neighbours", "passed")
    together = subject.answer(subject.clone(), images)
    other = [torch.cat([images[:half], end]) for end in (subject.noise(2)[half:], 1 - images[half:])]
    changed = max(differ(together[:half], subject.answer(subject.clone(), batch)[:half]) for batch in other)
    alone = [subject.answer(subject.clone(), images[i : i + 1]) for i in range(min(4, len(subject)))]
    gap = apart(together[: len(alone)], torch.cat(alone))
    said = f"{changed} of {half} answers change with the neighbours; alone they move by {gap:.1e} of the logits' spread"
    draws = subject.random and not changed
    if draws and gap > 100 * ROUNDING:
        said += ", as draws do that are made for a whole batch"
    return Seen(
        done, said,
        "failed" if changed else "doubtful" if gap > 100 * ROUNDING and not draws else "passed",
        "attack with batch_size=1, and make each image's answer its own: batch statistics and joint loops couple them",
    )  # fmt: skip


@check("answers under a gradient", 0.1)
def watched(subject: Subject) -> Seen:
    """A model may look whether somebody asks for its gradient."""
    plain = subject.answer(subject.clone(), subject.images)
    model = subject.clone()
    with subject.chance(0, known=True), torch.enable_grad():
        followed = model(subject.images.detach().clone().requires_grad_()).detach().float()
    changed = differ(plain, followed)
    return Seen(
        "the same images with and without autograd recording",
        f"{changed} of {len(subject)} images are answered otherwise",
        "failed" if changed else "passed",
        "what is attacked is not what answers: make forward the same in both cases",
    )


@check("declarations", 1.0)
def declarations(subject: Subject) -> Seen | None:
    """Each thing that a defence says it is not, it must not be."""
    if not isinstance(subject.model, Defence):
        return None
    untrue, needless = [], []
    with subject.chance(0):
        model = subject.clone()
        first, second, _ = asked_twice(model, subject.images)
    with subject.chance(1, number=1):
        third = subject.clone()(subject.images).detach().float()
    draws = bool(differ(first, second) or differ(first, third))
    changes = bool(_remembers(subject)[0])
    right = agreement(subject).holds if subject.model.differentiable else False
    for claim, said, true in (
        ("randomised = False", not subject.model.draws_at_random, not draws or changes),
        ("stateful = False", not subject.model.keeps_state, not changes),
        ("exact_gradient = True", exact(subject.model), right),
    ):
        if said and not true:
            untrue.append(claim)
        elif true and not said and not (claim == "randomised = False" and draws):
            needless.append(claim)
    said_of_it = f"not true: {', '.join(untrue)}" if untrue else "what it declares is true"
    if needless:
        said_of_it += f"; might declare {', '.join(needless)} and be evaluated sooner"
    return Seen(
        "what the defence says of its randomness, state and gradient, beside what was seen",
        said_of_it, "failed" if untrue else "passed",
        "leave the untrue lines out: it is then attacked as if it did all of it",
    )  # fmt: skip


def _remembers(subject: Subject) -> tuple[int, int]:
    return subject.recall("memory", lambda: _memory(subject))


def _memory(subject: Subject) -> tuple[int, int]:
    """Images that get another answer once others were seen, and the near-duplicates among them."""
    near = subject.noise(3)
    first, first_near = subject.answer(subject.clone(), subject.images), subject.answer(subject.clone(), near)
    used = subject.clone()
    subject.answer(used, subject.images)
    second_near = subject.answer(used, near)
    subject.answer(used, 1 - subject.images)
    for number in range(4, 4 + AGAIN):
        subject.answer(used, subject.noise(number))
    second = subject.answer(used, subject.images)
    return max(differ(first, second), differ(first_near, second_near)), differ(first_near, second_near)


@check("state between calls", 0.5)
def state(subject: Subject) -> Seen:
    """Asked last: by now the model has been through all the others' attacks, and should be what it was."""
    changed, near = _remembers(subject)
    repeats = differ(*(subject.answer(subject.clone(), subject.images) for _ in range(2)))
    since = differ(subject.answer(subject.clone(), subject.images), subject.answer(subject.model, subject.images))
    tensors = weights_fingerprint(subject.model) != weights_fingerprint(subject.clone())
    said = (
        f"{max(changed, since)} of {len(subject)} images get another answer after others were seen, {near} after a "
        f"near duplicate; weights and buffers {'changed' if tensors else 'are what they were'}"
    )
    declared = isinstance(subject.model, Defence) and subject.model.keeps_state
    verdict: Verdict = "failed" if max(changed, since) else "doubtful" if tensors else "passed"
    if repeats and verdict == "failed":
        verdict, said = "doubtful", f"{said}; chance that no seed settles may be all of it"
    if declared:
        verdict, said = "passed", f"{said}; declared as keeping a state"
    return Seen(
        f"the same images before and after others, {AGAIN} near duplicates of each, and all that this audit asked",
        said, verdict,
        "declare it (stateful=True, a copy meets each batch), or reset what is kept at the start of forward",
    )  # fmt: skip
