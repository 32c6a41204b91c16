"""What a repair must beat: its radius without a direction, its compute without a repair, heads that know nothing.

Each is a Defence like any other: `vallum.evaluate` attacks it through the surfaces that it declares.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vallum.defences import Defence
from vallum.defences.chance import draws_for
from vallum.defences.self_supervision import SelfSupervised
from vallum.defences.self_supervision.views import Box, cropped, recoloured
from vallum.images import Draws
from vallum.models.model import Model
from vallum.threats.fast import folded


class OnlyNoise(Defence):
    """Uniform noise of the repair's radius, and no repair: the published control."""

    randomised, exact_gradient, stateful = True, True, False

    def __init__(self, model: Model, radius: float) -> None:
        super().__init__(model)
        self.radius = radius

    def purify(self, images: Tensor) -> Tensor:
        noise = draws_for(images, "only noise").uniform(*images.shape[1:], purpose="noise").to(images)
        return (images + (noise * 2 - 1) * self.radius).clamp(0, 1)


class ManyViews(Defence):
    """The mean answer over views, the image itself the first: test-time augmentation with as many passes as a repair.

    The views are drawn once, the same for all images. They show `smallest` of the area or more.
    """

    randomised, exact_gradient, stateful = False, True, False

    def __init__(self, model: Model, views: int, smallest: float = 0.7, colour: float = 0.1) -> None:
        super().__init__(model)
        self.drawn = []
        for view in range(views - 1):
            draws = Draws(0, [0], f"view {view}")
            factors = 1 + (draws.uniform(3, purpose="colour") * 2 - 1) * colour
            self.drawn.append((Box.draw(draws, smallest, "box", flip=False), factors))

    def forward(self, images: Tensor) -> Tensor:
        colourful = torch.zeros(1, dtype=torch.bool)
        views = [images, *(recoloured(cropped(images, box), factors, colourful) for box, factors in self.drawn)]
        logits = self.model(torch.cat(views))  # (V N, K)
        return logits.unflatten(0, (len(views), -1)).mean(0)


def only(defence: SelfSupervised, *names: str) -> SelfSupervised:
    """The same repair by some of its tasks, with the heads that they have."""
    places = [place for place, task in enumerate(defence.objective.tasks) if task.name in names]
    return _alike(defence, defence.model, places)


def quick(defence: SelfSupervised, images: Tensor) -> SelfSupervised:
    """The same on a copy of the model with batch norm folded away: for searches, whose finds the true one judges."""
    search = folded(defence.bare, images)
    assert isinstance(search, Model)
    return _alike(defence, search, list(range(len(defence.objective.tasks))))


def shuffled(defence: SelfSupervised, images: Tensor) -> SelfSupervised:
    """Heads whose weights are the same numbers in another order: they know nothing, and pull as hard.

    Clean images say anew what is usual.
    """
    twin = _alike(defence, defence.model, list(range(len(defence.objective.tasks))))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in twin.objective.heads.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))
    twin.objective.settle(twin.backbone, images)
    return twin


def _alike(defence: SelfSupervised, model: Model, places: list[int]) -> SelfSupervised:
    """A defence of the same kind around a model, with those of the tasks, and copies of their heads."""
    old, layout = defence.objective, defence.objective.layout
    settings = {name: getattr(defence, name) for name in defence.knobs}
    pooled, map = defence.backbone.named
    tasks = [old.tasks[place] for place in places]
    guess = 0 if defence.guess is None else defence.guess.width
    twin = SelfSupervised(model, tasks, layout.image, pooled=pooled, map=map, guess=guess, **settings).eval()
    if twin.guess is not None and defence.guess is not None:
        twin.guess.load_state_dict(defence.guess.state_dict())
    new = twin.objective
    for task in tasks:
        new.heads[task.name].load_state_dict(old.heads[task.name].state_dict())
    for name in ("mean", "std", "quantiles"):
        setattr(new, name, getattr(old, name)[places].clone())
    new.examples, new.example_classes = old.examples, old.example_classes
    return twin
