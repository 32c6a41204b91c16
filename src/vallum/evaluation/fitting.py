"""Threats that are fitted before any image meets them: once for each model and surface, kept in the run's folder.

What is found there is a file like the result of a cell: whole or absent, worked by any process, used by all of them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from vallum.data import Data, load_data
from vallum.errors import UserError
from vallum.images import Draws
from vallum.models.model import Model
from vallum.threats.universal.base import Fitted
from vallum.threats.universal.found import Found
from vallum.threats.universal.pool import Pool
from vallum.threats.universal.portrait import portrait, save_picture

SHOWN = 256  # images on which it is told what a perturbation does


@dataclass(frozen=True)
class Source:
    """What a threat is fitted on: for each fold the images, and which fold the evaluated ones belong to."""

    data: Data
    folds: list[list[int]]
    of: dict[int, int] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for fold in self.folds:
            digest.update(self.data.fingerprint(fold).encode())
        digest.update(repr(sorted(self.of.items())).encode())
        return digest.hexdigest()


def source(threat: Fitted, data: Data, evaluated: Sequence[int], seed: int) -> Source:
    """Data of its own if the threat names some; else images that are not evaluated; else, of two halves, the other one.

    So no image ever meets a perturbation that was fitted on it.
    """
    if threat.data is not None:
        own = load_data(threat.data)
        if own.task != data.task:
            raise UserError(f"{threat.data} is there to {own.task}", f"the evaluated data to {data.task}")
        return Source(own, [list(range(len(own)))])
    others = sorted(set(range(len(data))) - set(evaluated))
    if len(others) >= min(threat.images, len(evaluated)):
        return Source(data, [others])
    order = Draws(seed, [0], "folds").each("order")[0].permutation(np.asarray(evaluated))
    halves = [sorted(order[: len(order) // 2].tolist()), sorted(order[len(order) // 2 :].tolist())]
    of = {index: fold for fold, half in enumerate(halves) for index in half}
    return Source(data, [sorted(others + halves[1]), sorted(others + halves[0])], of)


def fit(threat: Fitted, model: Model, where: Source, names: dict[str, str], path: Path) -> None:
    """Search, and write what was found as PATH, with a picture beside it."""
    deltas, said, began = [], [], time.perf_counter()
    for indices in where.folds:
        pool = Pool(where.data, indices, threat.images, threat.seed, model.device)
        delta, facts = threat.search(model, pool)
        deltas.append(delta.detach().float().cpu())
        shown = pool.batch(pool.select[:SHOWN])
        said.append({**facts, **portrait(delta, model, shown)})
    seconds = round(time.perf_counter() - began, 3)
    found = Found(
        torch.stack(deltas), threat.norm, float(threat.eps), {**names, "seconds": seconds, "folds": said}, where.of
    )
    for number, delta in enumerate(deltas):
        save_picture(delta, path.with_name(f"{path.stem}{f'.{number}' if len(deltas) > 1 else ''}.png"))
    found.save(path)


def ready(threat: Fitted, path: Path) -> Fitted:
    """The threat with what was found for it."""
    return replace(threat, found=_load(path))


@lru_cache(maxsize=32)
def _load(path: Path) -> Found:
    return Found.load(path)
