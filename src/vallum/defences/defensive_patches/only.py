"""Attacks that may touch the object only, or the patch only."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vallum.threats.base import Budget, Threat


class Only(nn.Module):
    """A model that is shown the `original` wherever `free` is 0: what an attack does there has no effect.

    `free` is (N or 1, 1, H, W). An attack that drops images which have fallen asks about the others: each is then
    taken for what it is nearest to, for no attack takes an image half the way to another.
    """

    def __init__(self, model: nn.Module, original: Tensor, free: Tensor) -> None:
        super().__init__()
        self.model, self.original, self.free = model, original, free

    def forward(self, images: Tensor) -> Tensor:
        original, free = self.original, self.free
        if len(images) != len(original):
            with torch.no_grad():
                which = torch.cdist(images.detach().flatten(1), original.flatten(1)).argmin(1)
            original, free = original[which], free[which] if len(free) > 1 else free
        return self.model(torch.where(free > 0, images, original))


def attacked(
    threat: Threat,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    keys: Sequence[int] | Tensor | None = None,
    free: Tensor | None = None,
) -> Tensor:
    """What the threat makes of the images where it may change only the pixels at which `free` is not 0.

    >>> from vallum.threats import threat
    >>> from vallum.models import load_model
    >>> images, free = torch.rand(2, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    >>> free[:, :, :16] = 1
    >>> attack = threat("pgd:eps=8/255,steps=2")
    >>> moved = attacked(attack, load_model("builtin:signs_resnet"), images, torch.tensor([0, 1]), free=free) != images
    >>> bool(moved[:, :, :16].any()), bool(moved[:, :, 16:].any())
    (True, False)
    """
    if free is None:
        return threat(model, images, labels, keys)
    found = threat(only(model, images, free), images, labels, keys)
    return torch.where(free > 0, found, images)


def only(model: nn.Module, original: Tensor, free: Tensor) -> nn.Module:
    """The model as an attack is shown it."""
    shown: Any = Only(model, original, free)
    for name in ("classes", "task", "size", "differentiable"):  # what an attack may ask of a model
        if hasattr(model, name):
            setattr(shown, name, getattr(model, name))
    shown.train(model.training)
    return shown


@dataclass(frozen=True, eq=False)
class Within(Threat):
    """An attack that may change what lies beneath a mask (H, W), and nothing else."""

    attack: Threat
    free: Tensor
    where: Literal["object", "patch"]
    seed: int = 0  # of the attack, if it is not 0

    kind = "attack"

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        return self.attack.needs_gradient

    @property
    def budget(self) -> Budget | None:
        return self.attack.budget

    @property
    def moves_labels(self) -> bool:  # type: ignore[override]
        return self.attack.moves_labels

    @property
    def targeted(self) -> bool:
        return self.attack.targeted

    @property
    def passes(self) -> float:
        return self.attack.passes

    def passes_for(self, segments: bool) -> float:
        return self.attack.passes_for(segments)

    def check_for_masks(self) -> None:
        self.attack.check_for_masks()

    @property
    def spec(self) -> str:
        return f"{self.attack.spec} on the {self.where} only"

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(self.free.cpu().numpy().tobytes(), digest_size=8).hexdigest() + self.attack.fingerprint

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.with_labels(model, images, labels, keys)[0]

    def with_labels(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        attack: Any = replace(self.attack, seed=self.seed) if self.seed else self.attack  # type: ignore[type-var]
        free = self.free.to(images) > 0  # (H, W)
        found, moved = attack.with_labels(only(model, images, free[None, None]), images, labels, keys)
        return torch.where(free, found, images), torch.where(free, moved, labels) if labels.ndim == 3 else labels
