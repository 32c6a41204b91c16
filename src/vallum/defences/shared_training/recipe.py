"""Shared adversarial training, Mummadi et al. 2019 (arXiv 1812.03705), and its relatives as special cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vallum.defences.attack_mode import attack_mode, still_norms
from vallum.defences.plain import correct
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.defences.shared_training.adversary import Ascent, anywhere, ascend, room
from vallum.defences.shared_training.bank import Bank
from vallum.defences.shared_training.heaps import Sharedness, make_heaps
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.base import Threat
from vallum.threats.losses import cross_entropy
from vallum.threats.norms import norm_named
from vallum.threats.pgd import PGD
from vallum.threats.universal import Universal

FEW = 8  # heaps, below which batch norm knows what they share
GAP = 0.05  # of accuracy, between training and evaluation mode


@dataclass
class Prepared:
    """A part of the step, with what its images were given to share."""

    batch: Batch
    shared: Tensor  # (H, C, h, w), or the bank itself where the training pass moves it
    which: Tensor  # (n,) the perturbation of each image
    chosen: Tensor  # (n,) whether it is perturbed, where an image is learnt from once
    look: Tensor  # accuracy at the adversary's last look


@RECIPES.register("shared_training")
@dataclass(frozen=True)
class SharedTraining(Recipe):
    """Cross-entropy on clean images and on images whose perturbation is shared by a heap of them.

    With sharedness=1 it is adversarial training; with a bank of one perturbation for everything it is universal
    adversarial training (Shafahi et al. 2020), with one for each class the class-wise kind (Benz et al. 2021).

    >>> SharedTraining(eps=4 / 255, sharedness=8).spec
    'shared_training:eps=4/255,sharedness=8'
    """

    eps: float = parameter("radius of the perturbations", 8 / 255)
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    sharedness: Sharedness = parameter("images per perturbation; batch: all, class: of a class, mixed: it varies", 64)
    steps: int = parameter("of the adversary; 0: the training pass moves a bank, at no cost", 4)
    step_size: float | None = parameter("length of a step; none: eps / 2, or eps where there is but one", None)
    floor: float | None = parameter("probability of its label below which an image pulls no longer; none: 0", 0.2)
    robust_weight: float = parameter("of the perturbed images in the loss; the clean ones have the rest", 0.5)
    both: bool = parameter("learn from each image clean and perturbed; false: from either", True)
    bank: int = parameter("perturbations kept from step to step, where heaps start; 0: at random", 0)
    bank_rate: float = parameter("how far a bank moves towards what a heap has found", 1.0)
    fresh: float = parameter("share of the heaps that start at random although there is a bank", 0.0)
    warmup: float = parameter("share of the training in which the radius grows from 0", 0.0)
    batch_norm: Literal["eval", "train", "frozen"] = parameter(
        "statistics while attacking; frozen: the running ones, while training too", "eval"
    )
    precision: Literal["float32", "bfloat16"] = parameter("of the adversary's passes", "float32")

    def __post_init__(self) -> None:
        if isinstance(self.sharedness, int) and self.sharedness < 1:
            raise UserError(f"sharedness={self.sharedness}", "images that share, at least 1", "or write batch")
        for name, least in (("steps", 0), ("bank", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}", f"at least {least} is needed")
        for name in ("robust_weight", "bank_rate", "fresh"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name):g}", "a share from 0 to 1 is needed")
        if not 0 <= self.warmup < 1:
            raise UserError(f"warmup={self.warmup:g}", "a share below 1 is needed")
        if self.floor is not None and not 0 < self.floor < 1:
            raise UserError(f"floor={self.floor:g}", "a probability between 0 and 1, or none")
        if self.steps == 0 and not self.bank:
            raise UserError("steps=0 moves nothing but a bank", "bank=1 or more", "or give the adversary a step")
        if self.bank and self.sharedness in (1, "mixed"):
            raise UserError(
                f"a bank with sharedness={self.sharedness}",
                "what is kept is shared by many",
                "raise sharedness, or write bank=0",
            )
        PGD(self.eps, self.norm, step_size=self.step_size)  # refuses what PGD refuses

    def companion(self, model: Model, images: Tensor) -> nn.Module:
        return Bank(self.bank, images[0], norm_named(self.norm), self.eps)

    def doubts(self, model: Model, images: int, at_once: int) -> list[str]:
        size, said = self._size(), []
        if isinstance(size, int) and size > images:
            said.append(
                f"sharedness={self.sharedness} takes heaps of {size} images, and a weight step has {images}, "
                f"which are one heap: raise the batch size to {size} or more, or lower sharedness"
            )
        heaps = self._heaps(at_once, 0 if model.classes is None else len(model.classes))
        if heaps < FEW and self.batch_norm != "frozen" and any(isinstance(m, _BatchNorm) for m in model.modules()):
            said.append(
                f"batch norm sees {at_once} images at once in {heaps} {'heap' if heaps == 1 else 'heaps'}: while the "
                "network is trained, their own statistics take away what so many share, and it learns little of it; "
                f"write batch_norm=frozen, or take {FEW} heaps or more (a larger batch, a lower sharedness, fewer "
                "parts), or a network with group or layer norm"
            )
        return said

    def hindsight(self, row: Mapping[str, float]) -> list[str]:
        trained, used = (row.get(name, math.nan) for name in ("train_robust_accuracy", "attacked_accuracy"))
        if not trained - used > GAP:
            return []
        return [
            f"of what is perturbed {trained:.1%} is right in training mode (train_robust_accuracy) and {used:.1%} "
            "in the mode in which the network is used (attacked_accuracy): what was learnt hangs on the batches' own "
            "statistics; write batch_norm=frozen, and judge it by an attack on the finished network"
        ]

    def prepare(self, model: Model, batches: Sequence[Batch], context: Context) -> Sequence[Any]:
        how, bank = self._ascent(context), context.companion
        assert isinstance(bank, Bank)
        chosen = [self._chosen(batch, context) for batch in batches]
        heaps = make_heaps(batches, context, self._size(), None if model.classes is None else len(model.classes))
        entry = bank.choose(heaps, self.sharedness == "class") if self.bank else torch.empty(0)
        if self.steps == 0:
            bank.climb(how.norm, how.eps, how.step_size)
            leaf = bank.entries.clone().requires_grad_()
            leaf.register_hook(bank.collect)
            parts = zip(batches, heaps.of, chosen, strict=True)
            return [Prepared(batch, leaf, entry[which], mask, leaf) for batch, which, mask in parts]
        box = room(heaps, [batch.images for batch in batches], bank.like)
        start = bank.entries[entry] if self.bank else anywhere(heaps, box, how)
        if self.bank and self.fresh:
            new = heaps.draws.uniform(purpose="fresh", device=start.device) < self.fresh
            start = torch.where(new.view(-1, 1, 1, 1), anywhere(heaps, box, how), start)
        some = [_only(batch, mask) for batch, mask in zip(batches, chosen, strict=True)]
        theirs = [heap[mask] for heap, mask in zip(heaps.of, chosen, strict=True)]
        fast = torch.autocast(start.device.type, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with attack_mode(model, "train" if self.batch_norm == "train" else "eval"), fast:
            shared, looks = ascend(model, some, theirs, heaps, start, box, how, context.sum_over_processes)
        if self.bank:
            bank.keep(entry, shared, self.bank_rate)
        done = zip(batches, heaps.of, chosen, looks, strict=True)
        return [Prepared(batch, shared, which, mask, look) for batch, which, mask, look in done]

    def step(self, model: Model, batch: Any, context: Context) -> Losses:
        images, labels, mask = batch.batch.images, batch.batch.labels, batch.chosen
        moved = (images + batch.shared[batch.which]).clamp(0, 1)
        with still_norms(model) if self.batch_norm == "frozen" else nullcontext():
            if self.both and self.robust_weight < 1:
                clean, hard = model(torch.cat([images, moved])).chunk(2)
            else:
                hard = clean = model(torch.where(mask.view(-1, 1, 1, 1), moved, images))
        losses, hits = cross_entropy(hard, labels), correct(hard, labels)
        if hard is clean:  # each image is one or the other: what is said of a part is scaled to all of it
            said = {"loss": losses.mean(), "train_robust_accuracy": _scaled(hits * mask, self.robust_weight)}
            if not self.both:
                said["train_accuracy"] = _scaled(hits * ~mask, 1 - self.robust_weight)
        else:
            loss = self.robust_weight * losses + (1 - self.robust_weight) * cross_entropy(clean, labels)
            accuracies = {"train_robust_accuracy": hits.mean(), "train_accuracy": correct(clean, labels).mean()}
            said = {"loss": loss.mean(), **accuracies}
        return said | ({"attacked_accuracy": batch.look} if self.steps else {})

    def probe(self) -> Threat:
        if self.norm == "1":
            return PGD(eps=self.eps, norm="1", steps=10)
        return Universal(eps=self.eps, norm=self.norm, steps=8, targets=0)

    def _heaps(self, at_once: int, classes: int) -> int:
        """In how many heaps the images are that go through the network at once, where they are fewest."""
        size = self._size()
        heaps = {"class": min(classes, at_once)}.get(str(size), 1)
        if isinstance(size, int):
            heaps = -(-at_once // size)
        return min(heaps, self.bank) if self.bank and not self.steps else heaps

    def _size(self) -> Sharedness:
        """So many images in a row that about as many as `sharedness` says are perturbed among them."""
        if self.both or self.sharedness == 1 or not isinstance(self.sharedness, int):
            return self.sharedness
        return max(1, round(self.sharedness / max(self.robust_weight, 1e-9)))

    def _chosen(self, batch: Batch, context: Context) -> Tensor:
        """(n,) which images are perturbed."""
        if self.both:
            return torch.ones(len(batch), dtype=torch.bool, device=batch.images.device)
        chance = context.draws(batch.keys, "shared training").uniform(purpose="perturbed")
        return (chance < self.robust_weight).to(batch.images.device)

    def _ascent(self, context: Context) -> Ascent:
        eps = self.eps * (min(1.0, context.progress / self.warmup) if self.warmup else 1.0)
        share = (0.5 if self.steps > 1 else 1.0) if self.step_size is None else self.step_size / max(self.eps, 1e-30)
        return Ascent(
            norm_named(self.norm), eps, self.steps, eps * share, None if self.floor is None else -math.log(self.floor)
        )


@RECIPES.register("shared_training_fast")
@dataclass(frozen=True)
class FastSharedTraining(SharedTraining):
    """The same for little more than plain training costs: one step from a warm start, each image learnt from once.

    >>> FastSharedTraining(eps=4 / 255).spec
    'shared_training_fast:eps=4/255'
    """

    steps: int = parameter("of the adversary; 0: the training pass moves a bank, at no cost", 1)
    both: bool = parameter("learn from each image clean and perturbed; false: from either", False)
    bank: int = parameter("perturbations kept from step to step, where heaps start; 0: at random", 8)
    fresh: float = parameter("share of the heaps that start at random although there is a bank", 0.25)


def _only(batch: Batch, chosen: Tensor) -> Batch:
    if bool(chosen.all()):
        return batch
    there = chosen.cpu()
    names = [name for name, one in zip(batch.names, there.tolist(), strict=True) if one]
    return Batch(batch.images[chosen], batch.labels[chosen], batch.keys[there], names)


def _scaled(hits: Tensor, share: float) -> Tensor:
    return hits.mean() / max(share, 1e-9)
