"""Models that attackers use in place of a repair, which follows signs and so has no gradient of its own to follow.

Each is a way in that broke a defence of this kind, or that none of them was ever shown: the published evaluation sent
images that were made for the bare model.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from vallum.defences.self_supervision.repair import beginning, drawn_for
from vallum.defences.stand_ins import StandIn, value_of
from vallum.defences.surface import carried_over
from vallum.threats.apgd import APGD
from vallum.threats.base import Threat
from vallum.threats.losses import rewarded
from vallum.threats.norms import Ball, norm_named, per_image
from vallum.threats.search import frozen
from vallum.threats.strong import Strong

if TYPE_CHECKING:
    from vallum.defences.self_supervision.defence import SelfSupervised

SHORT = 10  # steps of the repair that an attacker goes through at each of its own; the answer is that of them all
UNROLLED = 5  # steps whose gradients are followed
DRAWS = 4  # steps of whose views the tasks are pleased, where an attacker pleases them


def to_the_top(threat: Threat) -> Threat | None:
    """The attack that goes on to the highest value, reward and all, where an image has fallen already.

    The cascade of `strong` lives by leaving what has fallen: in its place there is its longest climb.
    """
    if isinstance(threat, Strong):
        steps, restarts = max(1, round(100 * threat.effort)), 5 if threat.exhaustive else 1
        return APGD(threat.eps, threat.norm, steps, restarts, early_stop=False, seed=threat.seed)
    return carried_over(threat)


class Around(StandIn):
    """What the stand-ins of this family share."""

    def __init__(self, defence: SelfSupervised, weight: float = 1.0) -> None:
        super().__init__(defence)
        self.defence, self.weight = defence, weight

    def losses(self, images: Tensor) -> Tensor:
        """(N, T) standardised losses of the images as they are, with a gradient: the mean over several steps' draws."""
        objective, draws = self.defence.objective, self.defence.draws(images)
        found = [
            objective.losses(self.defence.backbone, images, drawn_for(step, objective, draws))
            for step in range(min(DRAWS, max(self.defence.how.steps, 1)))
        ]
        return objective.standardised(torch.stack(found).mean(0))


class Trajectory(Around):
    """The answer of the defence; the gradient is the mean over where the repair came by, the image itself among them.

    Shi et al. 2021 fell from 51 % to 4 % this way (arXiv 2202.13711). At each place the gradient counts as the image's.
    """

    def forward(self, images: Tensor) -> Tensor:
        repaired = self.defence.repaired(images, keep_path=True)
        inner = self.defence.model
        answers = [inner(value_of(point, images)) for point in repaired.path]
        with torch.no_grad():
            last = inner(repaired.images)
        return value_of(last, torch.stack(answers).mean(0))


class TaskAware(Around):
    """The model without repair, and a reward for losing little at the tasks: what is natural is not repaired away.

    The published attack that knows the defence, with losses in units of what clean images lose; `task` picks one.
    """

    def __init__(self, defence: SelfSupervised, reward: float, task: int | None = None, **how: Any) -> None:
        super().__init__(defence, **how)
        self.strength, self.only = reward, task
        self.attack = to_the_top  # that the bare model falls is no reason to stop

    def forward(self, images: Tensor) -> Tensor:
        return rewarded(self.defence.model(images), self.reward(images))

    def reward(self, images: Tensor) -> Tensor:
        losses = self.losses(images)
        return -self.strength * (losses.mean(1) if self.only is None else losses[:, self.only])


class Hybrid(TaskAware):
    """The answer after the repair, straight through it, with the same reward: wrong although, and not worth repairing.

    What gates and early stops are to be met with.
    """

    def __init__(self, defence: SelfSupervised, reward: float, **how: Any) -> None:
        super().__init__(defence, reward, **how)
        self.attack = None

    def forward(self, images: Tensor) -> Tensor:
        return rewarded(self.defence(images), self.reward(images))


class WrongFeatures(Around):
    """The answer of the defence, and a reward for features, after the repair, as a clean image of another class has.

    After Sabour et al. 2016 (arXiv 1511.05122); the nearest of the images that were kept at the end of the training.
    """

    strength = 10.0

    def forward(self, images: Tensor) -> Tensor:
        defence = self.defence
        point = value_of(defence.repaired(images).images, images)
        features, logits = defence.backbone(point).pooled, defence.model(point)
        examples, classes = defence.objective.examples.to(features), defence.objective.example_classes
        with torch.no_grad():
            far = torch.cdist(features, examples, p=1)  # (N, examples)
            nearest = far.masked_fill(logits.argmax(1)[:, None] == classes, torch.inf).argmin(1)
        off = (features - examples[nearest]).abs().mean(1) / examples.abs().mean()
        return rewarded(logits, -self.strength * off)


class Unrolled(Around):
    """The repair as it could be differentiated: signs give way to something smooth, gradients pass through all of it.

    Each sign becomes g / (|g| + softness * mean |g|). While an attack goes on the softness falls from `softest` to
    `hardest`, so that it begins on a smooth way in and ends near the defence itself. Every step is computed anew on the
    way back instead of being kept, with the same draws.
    """

    def __init__(
        self,
        defence: SelfSupervised,
        steps: int = UNROLLED,
        softest: float = 1.0,
        hardest: float = 0.1,
        over: int = 20,
        **how: Any,
    ) -> None:
        super().__init__(defence, **how)
        self.how = defence.how.but(steps=min(steps, defence.how.steps), output="last", gate=0.0, stop=0.0)
        self.softest, self.hardest, self.over, self.calls = softest, hardest, over, 0
        self.attack = to_the_top  # what falls here may not fall in truth

    @property
    def softness(self) -> float:
        done = min(1.0, self.calls / self.over) if self.over else 1.0
        return self.softest * (self.hardest / self.softest) ** done

    def forward(self, images: Tensor) -> Tensor:
        logits = self.defence.model(self.repaired(images))
        self.calls += torch.is_grad_enabled() and images.requires_grad  # one more step of an attack
        return logits

    def repaired(self, images: Tensor) -> Tensor:
        """Each image after its smooth repair, with a gradient with respect to the image."""
        how, draws = self.how, self.defence.draws(images)
        followed = torch.is_grad_enabled() and images.requires_grad
        step = self._followed_step if followed else self._step
        with contextlib.nullcontext() if followed else frozen(self.defence):
            images = images if followed else images.detach().clone()
            guess = self.defence.guessed(images) if how.start == "guess" else None
            delta = beginning(
                how, Ball.around(norm_named(how.norm), images.detach(), self._radius(images)), draws, guess
            )
            for place, size in enumerate(how.sizes):
                drawn = drawn_for(place, self.defence.objective, draws)
                delta = step(images, delta, drawn, size, self.softness)
            return (images + delta).clamp(0, 1)

    def _followed_step(self, images: Tensor, delta: Tensor, *rest: Any) -> Tensor:
        return checkpoint(self._step, images, delta, *rest, use_reentrant=False)

    def _step(self, images: Tensor, delta: Tensor, drawn: list[Any], size: float, softness: float) -> Tensor:
        how, defence = self.how, self.defence
        followed = images.requires_grad
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # attention's faster kernels have no second gradient
            point = (images + delta).clamp(0, 1)
            point = point if followed else point.requires_grad_()
            gradient, _ = defence.objective.descent(
                defence.backbone, point, drawn, how.weights, how.combine, create_graph=followed
            )
        ball = Ball.around(norm_named(how.norm), images, self._radius(images))
        ahead = delta - size * smooth_steepest(gradient, how.norm, softness)
        ahead = ball.norm.project(ahead, ball.eps, ball.low, ball.high)
        return ahead if followed else ahead.detach()

    def _radius(self, images: Tensor) -> Tensor:
        return per_image(self.how.budget, images)


def smooth_steepest(gradient: Tensor, norm: str, softness: float) -> Tensor:
    """A step of about unit length in the norm that is as smooth as `softness` says; near 0 it is the steepest.

    >>> smooth_steepest(torch.tensor([-3.0, 1.0]).view(1, 1, 1, 2), "inf", 0.0).flatten().tolist()
    [-1.0, 1.0]
    """
    flat = gradient.flatten(1)
    if norm == "inf":
        scale = flat.abs() + softness * flat.abs().mean(1, keepdim=True)
    elif norm == "2":
        scale = flat.square().sum(1, keepdim=True).clamp_min(1e-30).sqrt()
    else:
        scale = flat.abs().sum(1, keepdim=True)
    return (flat / scale.clamp_min(1e-30)).view_as(gradient)
