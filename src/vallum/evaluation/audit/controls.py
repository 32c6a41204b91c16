"""Attackers who know less must not do better than one who knows the model and follows its gradient."""

from __future__ import annotations

from vallum.defences.base import Defence, Surface
from vallum.defences.surface import carried_over
from vallum.evaluation.audit.bypass import Bypass, inner_network
from vallum.evaluation.audit.check import Seen, Verdict, by_share, check, percent, worst
from vallum.evaluation.audit.subject import Found, Subject
from vallum.models.model import Model
from vallum.threats.losses import margin
from vallum.threats.square import Square

QUERIES = 500
NOISES = 20


@check("random noise", 0.3)
def noise(subject: Subject) -> Seen:
    """Following the gradient must lead further than as many steps at random.

    Along the gradient a linear function rises by eps times the gradient's dual norm; along a random direction by less,
    and much less in as many dimensions as an image has. So on nearly every image the attack's margin must be larger.
    """
    white = subject.attacked()
    tries = [subject.judge(subject.noise(number)) for number in range(NOISES)]
    best = subject.worst(iter(tries))
    if subject.random:  # chosen by draws that were kind to it: what it is worth shows on others
        best = subject.judge(best.images, again=1)
    no_better = int((best.margin >= white.margin).logical_and(white.accuracy > 0).sum())
    missed = int(subject.missed(best, white).sum())
    return Seen(
        f"{NOISES} points at random on the edge of the ball around each image",
        f"accuracy {percent(sum(one.left for one in tries) / NOISES)} at one, {percent(best.left)} at the worst of "
        f"them, {percent(white.left)} under the attack; it left {no_better} of {len(subject)} standing no worse off "
        "than noise does",
        worst(by_share(no_better, len(subject)), by_share(missed, len(subject))),
        "the attack is no better than chance: the gradient that it follows leads nowhere",
    )


@check("black-box against white-box", 8.0)
def black_box(subject: Subject) -> Seen | None:
    """Random search sees only answers, and no missing gradient can mislead it."""
    if subject.norm_name not in ("inf", "2") or not subject.model.differentiable:
        return None
    white = subject.attacked()
    search = Square(subject.eps, norm=subject.norm_name, queries=QUERIES, seed=subject.seed)  # type: ignore[arg-type]
    black = subject.run(search, Surface("black-box", subject.model))
    missed = int(subject.missed(black, white).sum())
    return Seen(
        f"Square with {QUERIES} queries, which sees nothing but answers",
        f"accuracy {percent(black.left)} under it, {percent(white.left)} under the attack that knows the model; it "
        f"alone breaks {missed} of {len(subject)}",
        softened(subject, by_share(missed, len(subject))),
        "the gradient hides what answers show: attack through a surface that has a useful one (BPDA, expectation)",
    )


@check("transfer against direct", 2.0)
def transfer(subject: Subject) -> Seen | None:
    """What is found on a part of the model, or on another model, must not be worse for it than what is found on it."""
    sources = [(name, through) for name, through in _sources(subject) if _leads(subject, through)]
    if not sources:
        return None
    white = subject.attacked()
    said, verdicts = [], []
    for name, through in sources:
        threat = carried_over(subject.threat(elsewhere=True))
        assert threat is not None
        found: Found = subject.run(threat, Surface(name, through))
        missed = int(subject.missed(found, white).sum())
        said.append(f"{percent(found.left)} {name}, which alone breaks {missed} of {len(subject)}")
        verdicts.append(softened(subject, by_share(missed, len(subject))))
    return Seen(
        f"the highest-loss points found {' and '.join(name for name, _ in sources)}, put before the model",
        f"accuracy {percent(white.left)} under the direct attack, {'; '.join(said)}",
        worst(*verdicts),
        "something stands between the images and a gradient that works: declare a Defence with that surface",
    )


def _sources(subject: Subject) -> list[tuple[str, Model]]:
    found: list[tuple[str, Model]] = []
    if isinstance(subject.model, Defence):
        found.append(("on the bare model", subject.model.bare))
    inner = inner_network(subject.model, subject.images[:2])
    if inner is not None:
        found.append((f"past what stands before {inner}", Bypass(subject.model, inner)))
    if subject.surrogate is not None:
        found.append(("on the surrogate", subject.surrogate))
    return found


def _leads(subject: Subject, through: Model) -> bool:
    return bool(subject.gradient(through, subject.images, lambda logits: margin(logits, subject.labels)).any())


def softened(subject: Subject, verdict: Verdict) -> Verdict:
    """No more than doubtful for a defence that declares these attacks as well: its union holds what they find."""
    return "doubtful" if subject.declared and verdict == "failed" else verdict
