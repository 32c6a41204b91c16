"""A perturbation that was found for many images at once: how it is added to them, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.threats.norms import norm_named
from vallum.threats.universal.laying import Paste, Place, add, repeated

FORMAT = "vallum universal perturbation"


@dataclass(frozen=True, eq=False)
class Found:
    """One perturbation, or one for each fold of the images: what an image meets was fitted on others.

    `facts` say how it was found. What is added and smaller than the images is repeated, as a tile; a patch lies where
    `place` says, and `deltas` are its difference to middle grey.
    """

    deltas: Tensor  # (F, C, h, w)
    norm: str
    eps: float
    facts: dict[str, Any] = field(default_factory=dict)
    folds: Mapping[int, int] = field(default_factory=dict)  # by the image's key; 0 where it is not named
    place: str = ""  # of a patch; empty for what is added to all of the image
    seed: int = 0  # of the places
    seen: tuple[frozenset[int], ...] = ()  # for each, what the images are known by that it was fitted on: see `marks`

    def on(self, images: Tensor, keys: Sequence[int] | Tensor | None, eps: float | None = None) -> Tensor:
        """The images with it; what is added is brought to the radius `eps` first, if it was found for another."""
        return self.laid(images, keys, eps)[0]

    def laid(
        self, images: Tensor, keys: Sequence[int] | Tensor | None, eps: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same, and what a patch covers, (N, 1, H, W): nothing, where it is none."""
        images, named = images.detach(), range(len(images)) if keys is None else keys
        if len(images) and images.shape[1] != self.deltas.shape[1]:
            raise UserError(f"the perturbation has {self.deltas.shape[1]} channels", f"the images {images.shape[1]}")
        deltas = self.deltas.to(images.device, images.dtype)
        if len(deltas) > 1:
            deltas = deltas[torch.tensor([self.folds.get(int(key), 0) for key in named], dtype=torch.long)]
        if self.place:
            return Paste(cast(Place, self.place), self.seed).laid(images, deltas, named, "met")
        radius = self.eps if eps is None else eps
        whole = repeated(deltas * self.factor(radius), *images.shape[-2:])
        ones, radii = torch.ones_like(whole), torch.full_like(whole[:, 0, 0, 0], radius)
        exact = norm_named(self.norm).project(whole, radii, -ones, ones)  # in the images' own precision
        return add(images, exact, named, "met"), torch.zeros_like(images[:, :1])

    def factor(self, radius: float) -> float:
        """What brings it to that radius."""
        if radius == self.eps:
            return 1.0
        if not self.eps:
            raise UserError("a perturbation of radius 0", "it is nothing, at any radius", "fit one with eps=8/255, say")
        return radius / self.eps

    def save(self, path: str | Path) -> Path:
        """Write it as safetensors; `perturbation:PATH` is the threat that uses it again."""
        path = Path(path)
        known = {"format": FORMAT, "norm": self.norm, "eps": repr(self.eps), "facts": json.dumps(self.facts)}
        known |= {"place": self.place, "seed": str(self.seed)}
        tensors = {"deltas": self.deltas.cpu().contiguous()}
        if self.folds:
            tensors["keys"] = torch.tensor(list(self.folds), dtype=torch.int64)
            tensors["folds"] = torch.tensor(list(self.folds.values()), dtype=torch.int64)
        if self.seen:
            tensors["seen"] = torch.tensor([mark for marks in self.seen for mark in sorted(marks)], dtype=torch.int64)
            known["seen"] = json.dumps([len(marks) for marks in self.seen])
        content = save(tensors, known)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda aside: aside.write_bytes(content))
        return path

    @classmethod
    def load(cls, path: str | Path) -> Found:
        try:
            with safe_open(path, "pt") as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        except (OSError, SafetensorError) as problem:
            raise UserError(f"{path} cannot be read", str(problem), "name a file that vallum saved") from None
        if facts.get("format") != FORMAT:
            raise UserError(f"{path} is no universal perturbation", remedy="name one that vallum saved")
        folds: dict[int, int] = {}
        if "keys" in tensors:
            folds = dict(zip(tensors["keys"].tolist(), tensors["folds"].tolist(), strict=True))
        said = json.loads(facts["facts"])
        where: dict[str, Any] = {"place": facts.get("place", ""), "seed": int(facts.get("seed", 0))}
        if "seen" in tensors:
            parts = tensors["seen"].split(json.loads(facts["seen"]))
            where["seen"] = tuple(frozenset(part.tolist()) for part in parts)
        return cls(tensors["deltas"], facts["norm"], float(facts["eps"]), said, folds, **where)
