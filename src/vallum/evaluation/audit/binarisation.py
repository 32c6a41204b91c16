"""The test by planting of Zimmermann et al. 2022 (arXiv 2206.13991): an adversarial image that must exist.

The model's classes are replaced by two, which a linear readout of its logits tells apart: one for a single point that
was drawn at random in the ball, the other for many more points drawn there and the image itself. Whatever the model,
there is now an adversarial image in the ball. An attack that does not find it says nothing about the model itself;
random points, as many as the attack has steps, must not find it, or the test says nothing about the attack.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vallum.defences.surface import carried_over
from vallum.evaluation.audit.check import Seen, by_share, check
from vallum.evaluation.audit.subject import Subject
from vallum.evaluation.measure import attack, fresh
from vallum.images import Draws, Task
from vallum.models.model import Model
from vallum.threats.norms import per_image

MOST = 32  # images
POINTS = 100  # drawn around each
NEAR = 0.9  # of the way from the other points' scores to the planted one's lies the boundary
EASY = 0.5  # of the images: where chance finds the planted class in more, nothing is learnt


class Planted(Model):
    """Two classes: the second where a linear readout of a model's logits, one for each image, exceeds a threshold."""

    task, classes = Task.CLASSIFY, ("as it was", "planted")

    def __init__(self, model: Model, weights: Tensor, threshold: Tensor) -> None:
        super().__init__()
        self.model, self.weights, self.threshold = model, weights, threshold  # (N, K), (N,)
        self.train(model.training)

    def forward(self, images: Tensor) -> Tensor:
        score = (features(self.model(images)) * self.weights).sum(1) - self.threshold  # (N,)
        return torch.stack([-score, score], 1) / 2


def features(logits: Tensor) -> Tensor:
    """(N, K) what the logits say beyond a common shift, of all pixels together."""
    flat = logits.flatten(2).mean(2) if logits.ndim > 2 else logits
    return flat - flat.mean(1, keepdim=True)


def readout(points: Tensor, sureness: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (N, K), thresholds (N,) that tell the most outlying of points (P, N, K) from all others, and which it is.

    The first point is the image itself, and never the planted one. The score at the centre of the points is minus
    `sureness`, so that the new model is as sure of its answer as the one it was made from.
    """
    x = points.double().transpose(0, 1)  # (N, P, K)
    scale = x.flatten(1).std(1).clamp_min(1e-300).view(-1, 1, 1)
    x = (x - x.mean(1, keepdim=True)) / scale
    spread = x.transpose(1, 2) @ x / x.shape[1]  # (N, K, K)
    ridge = 1e-3 * spread.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12).view(-1, 1, 1) * torch.eye(x.shape[2]).to(x)
    whitened = torch.linalg.solve(spread + ridge, x.transpose(1, 2)).transpose(1, 2)  # (N, P, K)
    along = x @ whitened.transpose(1, 2)  # (N, P, P): how far each point lies in the direction of each
    outlying = along.diagonal(dim1=1, dim2=2)  # (N, P)
    next_best = along.masked_fill(torch.eye(along.shape[1], dtype=torch.bool, device=x.device), -torch.inf).amax(1)
    alone = outlying > next_best  # no other point lies as far in its own direction
    alone[:, 0] = False
    planted = outlying.where(alone, -torch.inf).argmax(1)
    rows = torch.arange(len(x), device=x.device)
    weights = whitened[rows, planted]  # (N, K)
    scores = (x * weights[:, None]).sum(2)  # (N, P)
    top = scores[rows, planted]
    others = scores.scatter(1, planted[:, None], -torch.inf).amax(1)
    boundary = others + NEAR * (top - others)
    factor = sureness / boundary.clamp_min(1e-12)
    weights = weights * factor[:, None] / scale.view(-1, 1)
    middle = (points.double().mean(0) * weights).sum(1)
    return weights.float(), (boundary * factor + middle).float(), planted


@check("planted image", 4.0)
def planted(subject: Subject) -> Seen | None:
    few = subject.part(MOST)
    model = few.clone()

    def logits(images: Tensor, seed: int = 0) -> Tensor:
        """Of a model that draws at random, the mean over draws."""
        draws = range(8 if few.random else 1)
        return torch.stack([few.answer(model, images, seed=seed + 1000 * draw) for draw in draws]).mean(0)

    points = torch.stack([features(logits(one)) for one in (few.images, *(inside(few, i) for i in range(POINTS)))])
    sureness = float(features(few.answer(model, few.images)).amax(1).median())
    weights, threshold, which = readout(points, sureness)
    labels = torch.zeros(len(few), dtype=torch.int64, device=few.images.device)
    threat = carried_over(few.threat())
    assert threat is not None
    batch = replace(few.batch, labels=labels)

    def finds(images: Tensor) -> Tensor:
        judge = Planted(model, weights, threshold)
        return (features(logits(images, seed=77)) * judge.weights).sum(1) > judge.threshold

    target = few.images.clone()
    for i in range(POINTS):
        target[which == i + 1] = inside(few, i)[which == i + 1]
    there = finds(target)  # of a model that draws at random, what is there in one draw may be gone in the next
    if int(there.sum()) < len(few) / 2:
        return None
    found = torch.zeros(len(few), dtype=torch.bool, device=few.images.device)
    for surface in few.white:
        here = replace(surface, through=Planted(surface.through, weights, threshold))
        with few.chance(threat.seed):
            found |= finds(attack(here.here(threat) or threat, fresh(here, few.model), batch, few.seed)[0])
    tries = torch.stack([finds(inside(few, POINTS + i)) for i in range(few.steps + 1)]).any(0)
    count = int(there.sum())
    easy = float(tries[there].double().mean())
    verdict = by_share(int((there & ~found).sum()), count)
    hits, chance = int((found & there).sum()), int((tries & there).sum())
    said = f"the attack finds {hits} of {count}, {few.steps + 1} random points {chance}"
    if easy > EASY:
        verdict, said = ("doubtful" if verdict == "passed" else verdict), f"{said}: too easy to tell"
    return Seen(
        f"for {count} images, a readout that has one of {POINTS} random points in the ball in a class of its own",
        said, verdict,
        "the attack cannot find what is certainly there: what it says of the model is worth nothing; see the gradient "
        "checks" if easy <= EASY else "take more images, or a larger eps",
    )  # fmt: skip


def inside(subject: Subject, number: int) -> Tensor:
    """Points drawn at random from the ball around each image."""
    draws = Draws(subject.seed, subject.batch.keys, f"audit/point {number}")
    low, high = -subject.images, 1 - subject.images
    return (subject.images + subject.norm.random(draws, per_image(subject.eps, subject.images), low, high)).clamp(0, 1)
