"""What a patch is asked to do: each maker says which pictures a model is shown in a step, and what it should answer.

One loop, in making.py, serves them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.defensive_patches.backgrounds import backgrounds
from vallum.defences.defensive_patches.only import attacked
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import Registry, parameter
from vallum.threats.pgd import PGD

# (patches, images, labels, draws) -> how the images look with them, and how far the patch covers each pixel
Lay = Callable[[Tensor, Tensor, Tensor, Draws], tuple[Tensor, Tensor]]


@dataclass
class View:
    """Pictures that the models are shown, what they should answer, and how much it weighs."""

    name: str
    seen: Tensor  # (N, 3, H, W), a function of the patches
    there: Tensor  # (N or 1, 1, H, W): how far the patch covers each pixel
    answers: Tensor | None  # (N,); None: no class more than another
    weight: float = 1.0

    def losses(self, logits: Tensor) -> Tensor:
        """(N,)"""
        if self.answers is not None:
            return F.cross_entropy(logits, self.answers, reduction="none")
        even = torch.full_like(logits, 1 / logits.shape[1])
        return F.cross_entropy(logits, even, reduction="none") - float(np.log(logits.shape[1]))


class Maker:
    """Subclasses are frozen dataclasses, registered in MAKERS."""

    universal: ClassVar[bool] = False  # one patch for all classes
    copies: ClassVar[bool] = False  # patches of its own for each model, merged at the end of each round
    single: ClassVar[bool] = False  # serves one model
    start: ClassVar[str] = "noise"  # what a search begins from, unless one says

    @property
    def spec(self) -> str:
        return MAKERS.spec(self)

    @property
    def rounds(self) -> int:
        """How many times copies are merged."""
        return 1

    def views(self, patches: Tensor, images: Tensor, labels: Tensor, draws: Draws, lay: Lay) -> list[View]:
        """What is shown in one step; the first is what a patch is there for: its class is told."""
        seen, there = lay(patches, images, labels, draws.of("own"))
        return [View("own", seen, there, labels)]

    def asked(self, models: Sequence[nn.Module], generator: np.random.Generator) -> list[nn.Module]:
        """Which of the models are asked in this step."""
        return list(models)

    def attacked(self, model: nn.Module, view: View, draws: Draws) -> Tensor:
        """The view's pictures as they come to the model: after an attack, where there is one; no gradient flows."""
        return view.seen.detach()


MAKERS: Registry[Maker] = Registry("maker of patches")


def maker(spec: str | Maker) -> Maker:
    """What a spec names; a maker itself comes back as it is."""
    return MAKERS.parse(spec) if isinstance(spec, str) else spec


@MAKERS.register("prior")
@dataclass(frozen=True)
class Prior(Maker):
    """The patch alone, on mid-grey, must be taken for its class: the first stage of the published method."""

    def views(self, patches: Tensor, images: Tensor, labels: Tensor, draws: Draws, lay: Lay) -> list[View]:
        seen, there = lay(patches, torch.full_like(images, 0.5), labels, draws.of("own"))
        return [View("own", seen, there, labels)]


@MAKERS.register("unadversarial")
@dataclass(frozen=True)
class Unadversarial(Maker):
    """One model's loss, as in Salman et al. 2021 (arXiv 2012.12235): the baseline.

    As published: colours=pixels, optimizer=sign, lr=0.001.
    """

    single: ClassVar[bool] = True


@MAKERS.register("ensemble")
@dataclass(frozen=True)
class Ensemble(Maker):
    """Several models at once, some of them left out of each step, so that the patch serves others too."""

    drop: float = parameter("probability with which a model is left out of a step; one stays always", 0.0)
    average: Literal["losses", "logits"] = parameter("what the models are averaged by", "losses")
    eps: float = parameter("radius, in the norm inf, of an attack on each picture; 0: none", 0.0)
    attack_steps: int = parameter("of that attack", 3)
    where: Literal["all", "object", "patch"] = parameter("the pixels that it may touch", "all")

    start: ClassVar[str] = "prior"  # which takes it to better patches, in fewer steps

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise UserError(f"drop={self.drop:g}", "a probability below 1")
        if self.eps < 0 or self.attack_steps < 1:
            raise UserError(f"eps={self.eps:g}, attack_steps={self.attack_steps}", "eps >= 0, and a step at least")

    def asked(self, models: Sequence[nn.Module], generator: np.random.Generator) -> list[nn.Module]:
        kept = generator.random(len(models)) >= self.drop
        kept[generator.integers(len(models))] |= not kept.any()
        return [model for model, stays in zip(models, kept, strict=True) if stays]

    def attacked(self, model: nn.Module, view: View, draws: Draws) -> Tensor:
        seen = view.seen.detach()
        if not self.eps or view.answers is None:
            return seen
        free = {"all": None, "object": view.there < 1, "patch": view.there > 0}[self.where]
        attack = PGD(self.eps, steps=self.attack_steps, early_stop=False, seed=draws.seed)
        return attacked(attack, model, seen, view.answers, draws.keys, None if free is None else free.to(seen))


@MAKERS.register("minmax")
@dataclass(frozen=True)
class MinMax(Ensemble):
    """Against an attack on each picture, climbed anew in each step: without it nothing withstands one."""

    eps: float = parameter("radius, in the norm inf, of an attack on each picture; 0: none", 4 / 255)


@MAKERS.register("selective")
@dataclass(frozen=True)
class Selective(Ensemble):
    """Helps its own class and does not pass others off as it: on another object, that object's class must be seen."""

    wrong: float = parameter("weight of patches on objects of another class, whose own class must be told", 1.0)
    alone: float = parameter("weight of patches on no object at all, of which nothing must be told", 0.3)

    start: ClassVar[str] = "noise"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.wrong, self.alone) < 0:
            raise UserError(f"wrong={self.wrong:g}, alone={self.alone:g}", "weights are not negative")

    def views(self, patches: Tensor, images: Tensor, labels: Tensor, draws: Draws, lay: Lay) -> list[View]:
        views = super().views(patches, images, labels, draws, lay)
        if self.wrong and len(patches) > 1:
            other = another(labels, len(patches), draws)
            views.append(View("wrong", *lay(patches, images, other, draws.of("wrong")), labels, self.wrong))
        if self.alone:
            empty = backgrounds(images, draws.of("backgrounds"))
            views.append(View("alone", *lay(patches, empty, labels, draws.of("alone")), None, self.alone))
        return views


@MAKERS.register("universal")
@dataclass(frozen=True)
class Universal(Ensemble):
    """One patch for all classes: it tells no class, so what it gains is what helps a model see."""

    universal: ClassVar[bool] = True
    start: ClassVar[str] = "noise"


@MAKERS.register("consensus")
@dataclass(frozen=True)
class Consensus(Maker):
    """Patches for each model on its own, merged, and again: the second stage of the published method.

    As published: 30 rounds of an epoch each, merge=gram, colours=pixels, a batch of 32.
    """

    merge: Literal["mean", "gram"] = parameter("how copies become one", "mean")
    times: int = parameter("rounds, each with an equal share of the steps", 8)
    merge_steps: int = parameter("of Adam, for each merge by Gram", 100)
    merge_lr: float = parameter("of the first merges by Gram, of colours in [-1, 1]; it falls", 0.03)

    copies: ClassVar[bool] = True
    start: ClassVar[str] = "prior"

    def __post_init__(self) -> None:
        if min(self.times, self.merge_steps) < 1 or self.merge_lr <= 0:
            raise UserError(f"{self.spec}", "a round and a step at least, and a positive rate")

    @property
    def rounds(self) -> int:
        return self.times


def another(labels: Tensor, classes: int, draws: Draws) -> Tensor:
    """For each label another one, any of them equally likely."""
    further = 1 + draws.integers(classes - 1, purpose="another", device=labels.device)
    return (labels + further) % classes


def third(lr: float, turn: int) -> float:
    """The published schedule of rounds: a third after 3, 8, 15, 25, 40, 60, 90 and 140 of them."""
    return lr / 3 ** sum(turn >= milestone for milestone in (3, 8, 15, 25, 40, 60, 90, 140))
