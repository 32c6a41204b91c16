"""What is audited: a model, some images that it answers right, and the attack whose word is in doubt."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from vallum.defences.base import Defence, Surface, surfaces_of
from vallum.defences.chance import drawing, settled
from vallum.defences.surface import black_box
from vallum.evaluation.measure import attack, fresh, judged, together
from vallum.images import Batch, Draws, Task
from vallum.models.model import Model
from vallum.threats.base import Threat
from vallum.threats.losses import margin
from vallum.threats.norms import Norm, norm_named, per_image
from vallum.threats.pgd import PGD
from vallum.threats.search import frozen
from vallum.threats.square import Square

T = TypeVar("T")
AFFORDABLE = 256.0  # images times the weight of the surfaces
FEWEST = 16
DRAWS = 16  # times that a model which draws at random is asked about what an attack found


@dataclass
class Found:
    """One image for each of the subject's, and what the model says of it."""

    images: Tensor  # (N, C, H, W)
    accuracy: Tensor  # (N,) of each, over draws: 0 or 1, or a share of draws or of pixels
    margin: Tensor  # (N,) by how much another class leads; the higher, the worse for the model

    @property
    def left(self) -> float:
        return float(self.accuracy.mean())


@dataclass
class Subject:
    """A model under audit, on which each check may run attacks and ask for answers."""

    model: Model
    pristine: Model  # the same, and nobody has asked it anything
    batch: Batch
    eps: float
    norm_name: str = "inf"
    steps: int = 20
    seed: int = 0
    surrogate: Model | None = None
    random: bool = False  # whether it was seen to draw at random
    declared: bool = field(init=False)  # whether it says of itself how it must be attacked
    _kept: dict[object, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.declared = isinstance(self.model, Defence)

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def images(self) -> Tensor:
        return self.batch.images

    @property
    def labels(self) -> Tensor:
        return self.batch.labels

    @property
    def norm(self) -> Norm:
        return norm_named(self.norm_name)

    @property
    def classify(self) -> bool:
        return self.model.task is Task.CLASSIFY

    @property
    def known_to_be_random(self) -> bool:
        return isinstance(self.model, Defence) and self.model.draws_at_random

    @property
    def whole(self) -> float:
        """A radius within which every image can become every other."""
        corner = torch.ones_like(self.images[:1])
        return float(self.norm.length(corner)[0])

    @cached_property
    def white(self) -> list[Surface]:
        """The surfaces of an attacker who follows gradients and knows the model."""
        declared = surfaces_of(self.model, thorough=False)
        return [s for s in declared if s.in_union and s.knows_defence and s.attack is not black_box]

    def threat(
        self, eps: float | None = None, steps: int | None = None, seed: int = 0, elsewhere: bool = False
    ) -> Threat:
        """The attack in doubt; one that runs `elsewhere` need not ask whether the model itself has a gradient."""
        radius = self.eps if eps is None else eps
        count = steps or self.steps
        number = 1000 * self.seed + seed
        if not (self.model.differentiable or elsewhere):
            return Square(radius, norm="2" if self.norm_name == "2" else "inf", queries=3 * count, seed=number)
        found = PGD(radius, norm=self.norm_name, steps=count, seed=number)  # type: ignore[arg-type]
        # Where draws decide, the first that fools the model is luck: the highest loss is what to look for.
        return replace(found, early_stop=False) if self.random else found

    def attacked(self, eps: float | None = None, steps: int | None = None, seed: int = 0) -> Found:
        """The worst, for each image, of what the attack finds on every white-box surface."""
        threat = self.threat(eps, steps, seed)
        return self.recall(threat, lambda: self.worst(self.run(threat, surface) for surface in self.white))

    def recall(self, what: object, make: Callable[[], T]) -> T:
        """What several checks need is made once."""
        if what not in self._kept:
            self._kept[what] = make()
        return self._kept[what]

    def run(self, threat: Threat, surface: Surface) -> Found:
        """What a threat finds on a surface, verified on the model itself."""
        here = surface.here(threat)
        if here is None:
            return self.judge(self.images)
        with self.chance(here.seed):
            return self.judge(attack(here, fresh(surface, self.model), self.batch, self.seed)[0])

    def judge(self, images: Tensor, again: int = 0) -> Found:
        """What the model itself says of images, with draws that no attack has seen, and others each time `again`."""
        model, answers = fresh(self.model, self.model), []
        for number in range(DRAWS if self.random else 1):
            with self.chance(10_000 * (again + 1) + number, number), torch.no_grad():
                answers.append(model(images).float())
        columns = together([judged(one, self.labels, self.model.task) for one in answers])
        leads = torch.stack([margin(one, self.labels) for one in answers]).mean(0)
        return Found(images.detach(), columns["accuracy"].double(), leads)

    def worst(self, found: Iterator[Found]) -> Found:
        """For each image the candidate with which the model does worst."""
        every = list(found)
        score = torch.stack([one.accuracy - one.margin.double().sigmoid() * 1e-6 for one in every])  # ties: by margin
        place = score.argmin(0)  # (N,)
        rows = torch.arange(len(self), device=place.device)
        return Found(*(torch.stack([getattr(one, f.name) for one in every])[place, rows] for f in _FIELDS))

    def answer(self, model: Model, images: Tensor, seed: int = 0) -> Tensor:
        """Logits, for which the same is drawn each time."""
        with self.chance(seed, known=True), torch.no_grad():
            return model(images).float()

    @contextmanager
    def chance(self, seed: int, number: int = 0, known: bool = False) -> Iterator[None]:
        """All that is drawn inside comes from this seed."""
        mixed = 1_000_003 * self.seed + seed
        with settled(mixed, self.images.device), drawing(mixed, number, known):
            yield

    def clone(self) -> Model:
        """The model as it was before anybody asked it anything."""
        return copied(self.pristine)

    def missed(self, better: Found, worse: Found) -> Tensor:
        """(N,) images with which `worse`, which ought to find at least as much, did clearly less than `better`."""
        return worse.accuracy - better.accuracy > self.clear

    @property
    def clear(self) -> float:
        """The difference between two accuracies of one image that is no matter of chance.

        Over draws it is three standard deviations of the difference of two means, each draw right in half of the
        cases; a segmenter's is a tenth of the pixels; else right and wrong are all there is.
        """
        over_draws = 3 * (0.5 / DRAWS) ** 0.5 if self.random else 0.0
        return max(over_draws, 0.4 if self.classify else 0.1)

    def noise(self, number: int) -> Tensor:
        """The images, each moved to the edge of its ball in a direction of its own, drawn at random."""
        draws = Draws(self.seed, self.batch.keys, f"audit/noise {number}")
        direction = draws.normal(*self.images.shape[1:], purpose="direction", device=self.images.device)
        low, high, size = -self.images, 1 - self.images, per_image(self.eps, self.images)
        step = self.norm.steepest(direction.to(self.images.dtype), size, low, high)
        return (self.images + self.norm.project(step, size, low, high)).clamp(0, 1)

    def gradient(self, through: Model, images: Tensor, score: Callable[[Tensor], Tensor], seed: int = 0) -> Tensor:
        """Of a score per image with respect to the images, with known draws; zero where no graph leads to them."""
        point = images.detach().clone().requires_grad_()
        with frozen(through), self.chance(seed, known=True):
            value = score(through(point)).sum()
            if not value.requires_grad:
                return torch.zeros_like(images)
            (found,) = torch.autograd.grad(value, point, allow_unused=True)
        return torch.zeros_like(images) if found is None else found

    def only(self, which: Tensor, fewer: bool) -> Subject:
        """The same with some of its images; with `fewer`, as many as surfaces leave time for."""
        weight = sum(surface.weight for surface in self.white)
        most = max(FEWEST, round(AFFORDABLE / weight)) if fewer else len(self)
        places = which.nonzero()[:most, 0].tolist()
        held = self.batch
        batch = Batch(held.images[places], held.labels[places], held.keys[places], [held.names[i] for i in places])
        return dataclasses.replace(self, batch=batch, _kept={})

    def part(self, most: int) -> Subject:
        """The same with its first few images, for checks that are dear."""
        if len(self) <= most:
            return self
        return self.recall(("part", most), lambda: self._first(most))

    def _first(self, most: int) -> Subject:
        held, attacked = self.batch, self.attacked()
        few = Batch(held.images[:most], held.labels[:most], held.keys[:most], held.names[:most])
        found = Found(*(getattr(attacked, f.name)[:most] for f in _FIELDS))
        return dataclasses.replace(self, batch=few, _kept={self.threat(): found})


_FIELDS = dataclasses.fields(Found)


def copied(thing: T) -> T:
    """A copy, or the thing itself where it cannot be copied."""
    try:
        return copy.deepcopy(thing)
    except (TypeError, RuntimeError, ValueError):
        return thing
