"""A perturbation that was found for many images at once: how it is added to them, saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.threats.norms import norm_named

FORMAT = "vallum universal perturbation"


@dataclass(frozen=True, eq=False)
class Found:
    """One perturbation, or one for each fold of the images: what an image meets was fitted on others.

    `facts` say how it was found. A perturbation smaller than the images is repeated, as a tile.
    """

    deltas: Tensor  # (F, C, h, w)
    norm: str
    eps: float
    facts: dict[str, Any] = field(default_factory=dict)
    folds: Mapping[int, int] = field(default_factory=dict)  # by the image's key; 0 where it is not named

    def add_to(self, images: Tensor, keys: Sequence[int] | Tensor | None, eps: float) -> Tensor:
        """The images with it, brought to the radius `eps` if it was found for another, and clipped to [0, 1]."""
        if len(images) and images.shape[1] != self.deltas.shape[1]:
            raise UserError(f"the perturbation has {self.deltas.shape[1]} channels", f"the images {images.shape[1]}")
        scaled = self.deltas.to(images.device, images.dtype) * (eps / self.eps if eps != self.eps else 1.0)
        whole = repeated(scaled, *images.shape[-2:])
        ones, radii = torch.ones_like(whole), torch.full_like(whole[:, 0, 0, 0], eps)
        exact = norm_named(self.norm).project(whole, radii, -ones, ones)  # in the images' own precision
        if len(exact) == 1:
            which = torch.zeros(len(images), dtype=torch.long)
        else:
            which = torch.tensor([self.folds.get(int(k), 0) for k in (range(len(images)) if keys is None else keys)])
        return (images.detach() + exact[which.to(images.device)]).clamp(0, 1)

    def save(self, path: str | Path) -> Path:
        """Write it as safetensors; `perturbation:PATH` is the threat that uses it again."""
        path = Path(path)
        known = {"format": FORMAT, "norm": self.norm, "eps": repr(self.eps), "facts": json.dumps(self.facts)}
        tensors = {"deltas": self.deltas.cpu().contiguous()}
        if self.folds:
            tensors["keys"] = torch.tensor(list(self.folds), dtype=torch.int64)
            tensors["folds"] = torch.tensor(list(self.folds.values()), dtype=torch.int64)
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
        return cls(tensors["deltas"], facts["norm"], float(facts["eps"]), json.loads(facts["facts"]), folds)


def repeated(tiles: Tensor, height: int, width: int) -> Tensor:
    """(F, C, h, w) laid side by side until they cover height and width.

    >>> repeated(torch.arange(4.0).view(1, 1, 2, 2), 2, 3)[0, 0].tolist()
    [[0.0, 1.0, 0.0], [2.0, 3.0, 2.0]]
    """
    down, right = -(-height // tiles.shape[-2]), -(-width // tiles.shape[-1])
    return (
        tiles
        if (down, right) == (1, 1) and tiles.shape[-2:] == (height, width)
        else tiles.repeat(1, 1, down, right)[..., :height, :width]
    )
