"""What threats that are one perturbation for all images have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from vallum.data import Data, load_data
from vallum.errors import UserError
from vallum.specs import parameter
from vallum.threats.base import THREATS, Bounded, Budget, Threat
from vallum.threats.norms import norm_named
from vallum.threats.placement import covered
from vallum.threats.universal.found import Found
from vallum.threats.universal.pool import Pool, marks


class _Fitting(Threat):
    """What every fitted threat lets its user choose; here the types alone, so that each orders its own fields."""

    data: str | None  # what to fit on, where it is not the evaluated data
    images: int  # how many


@dataclass(frozen=True)
class Fitted(_Fitting):
    """An attack that looks for one perturbation on some images, and adds it to others.

    Subclasses define `search`. `evaluate` fits it to each model on images that are not evaluated; in Python `fit` does.
    """

    found: Found | None = field(
        default=None, kw_only=True, repr=False, compare=False, metadata={"hidden": True, "help": "by the search"}
    )
    kind = "attack"
    fits: ClassVar[bool] = True
    looks: ClassVar[bool] = False

    def search(self, model: Any, pool: Pool) -> tuple[Tensor, dict[str, Any]]:
        """(C, h, w) the perturbation, and what there is to say about how it was found."""
        raise NotImplementedError

    @property
    def fitting_passes(self) -> float:
        """About how many forward passes the search takes."""
        raise NotImplementedError

    def fit(self, model: Any, data: Any, indices: Sequence[int] | None = None) -> Self:
        """The same threat with a perturbation found for `model` on the images of `data`, or on those at `indices`."""
        images = data if isinstance(data, Data) else load_data(data)
        chosen = list(range(len(images)) if indices is None else indices)
        pool = Pool(images, chosen, self.images, self.seed, getattr(model, "device", torch.device("cpu")))
        delta, facts = self.search(model, pool)
        return replace(self, found=replace(self.pack(delta[None].detach().cpu(), facts, {}), seen=(pool.marks,)))

    def pack(self, deltas: Tensor, facts: dict[str, Any], folds: dict[int, int]) -> Found:
        """What was found, (F, C, h, w), with all that is needed to use it."""
        raise NotImplementedError

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.ready.on(images, keys)

    @property
    def ready(self) -> Found:
        """What was found."""
        if self.found is None:
            raise UserError(
                f"{self.spec} is fitted on many images before it meets any",
                "`evaluate` does that",
                "in Python: threat.fit(model, data) gives one that is ready",
            )
        return self.found


class Added(Fitted, Bounded):
    """One that is added to all of the image, inside a ball."""

    def pack(self, deltas: Tensor, facts: dict[str, Any], folds: dict[int, int]) -> Found:
        return Found(deltas, self.norm, float(self.eps), facts, folds)


@THREATS.register("perturbation")
@dataclass(frozen=True)
class Perturbation(Threat):
    """A universal perturbation from a file, as one that was fitted to another model: what of it transfers?

    Where the file holds one for each of two halves of the images, an image meets that which was not fitted on it, and
    `evaluate` tells of images that all were fitted on.

    >>> Perturbation("found.safetensors", eps=8 / 255).spec
    'perturbation:path=found.safetensors,eps=8/255'
    """

    path: str = parameter("a file that an evaluation left in `fitted/`, or that `Found.save` wrote")
    eps: float | None = parameter("bring it to this radius; none: as it is", None)
    seed: int = parameter("draws nothing", 0)

    folds: Mapping[int, int] | None = field(
        default=None, kw_only=True, repr=False, compare=False, metadata={"hidden": True, "help": "by the evaluation"}
    )

    kind: ClassVar[Literal["clean", "noise", "corruption", "attack"]] = "attack"
    looks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.eps is not None and not 0 <= self.eps <= 1:
            raise UserError(f"eps={self.eps:g}", "images are in [0, 1]", f"write eps={self.eps:g}/255")

    @property
    def found(self) -> Found:
        file = Path(self.path)
        if not file.is_file():
            raise UserError(f"{self.path} does not exist", remedy="name a file that vallum saved")
        found = _loaded(self.path, file.stat().st_mtime_ns)
        if found.place and self.eps is not None:
            raise UserError(
                f"eps={self.eps:g} for a patch", "a patch has no radius: it may show anything", "leave it out"
            )
        return found

    def meeting(self, data: Data, indices: Sequence[int]) -> tuple[Self, list[str]]:
        """The same for these images, each with what was not fitted on it; and what there is to be warned of."""
        found, folds, met = self.found, {}, 0
        if not found.seen:
            return self, [f"{self.spec} does not say which images it was fitted on: if on these, too little is left"]
        known = marks(data, indices)
        for index in indices:
            others = [fold for fold, seen in enumerate(found.seen) if known.get(index) not in seen]
            folds[index] = others[0] if others else 0
            met += not others
        notes = [
            f"{self.spec} was fitted on {met} of the {len(indices)} images: less is left of these than of others; "
            "take images of another split"
        ]
        return replace(self, folds=folds), notes if met else []

    @property
    def budget(self) -> Budget | None:
        return None if self.found.place else Budget(norm_named(self.found.norm), self._radius)

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(Path(self.path).read_bytes(), digest_size=8).hexdigest()

    @property
    def moves_labels(self) -> bool:  # type: ignore[override]
        return bool(self.found.place)

    @property
    def _radius(self) -> float:
        return self.found.eps if self.eps is None else self.eps

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.with_labels(model, images, labels, keys)[0]

    def with_labels(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        found = self.found
        if self.folds is not None:
            found = replace(found, folds=self.folds)
        moved, there = found.laid(images, keys, self._radius)
        return moved, covered(labels, there)


@lru_cache(maxsize=16)
def _loaded(path: str, changed: int) -> Found:
    return Found.load(path)
