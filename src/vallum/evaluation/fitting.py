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
from typing import Any

import numpy as np
import torch

from vallum.data import Data, load_data
from vallum.data.part import Part
from vallum.data.pictures import Pictures
from vallum.errors import UserError
from vallum.images import Draws
from vallum.models.model import Model
from vallum.threats.universal.base import Fitted
from vallum.threats.universal.found import Found
from vallum.threats.universal.pool import Pool, marks
from vallum.threats.universal.portrait import portrait, save_picture

SHOWN = 256  # images on which it is told what a perturbation does


@dataclass(frozen=True)
class Source:
    """What a threat is fitted on: for each fold the images, and which fold the evaluated ones belong to."""

    data: Data
    folds: list[list[int]]
    of: dict[int, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what is doubtful about them

    @property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=8)
        for fold in self.folds:
            digest.update(self.data.fingerprint(fold).encode())
        digest.update(repr(sorted(self.of.items())).encode())
        return digest.hexdigest()


def source(threat: Fitted, data: Data, evaluated: Sequence[int], seed: int) -> Source:
    """Data of its own if the threat names some; else images that are not evaluated; else, of two halves, the other one.

    So no image meets a perturbation that was fitted on it: of data of its own those are left out that are evaluated.
    """
    if threat.data is not None:
        own = load_data(threat.data)
        if own.task != data.task:
            raise UserError(f"{threat.data} is there to {own.task}", f"the evaluated data to {data.task}")
        return _apart(own, data, evaluated, threat)
    others = sorted(set(range(len(data))) - set(evaluated))
    if len(others) >= min(threat.images, len(evaluated)):
        return Source(data, [others])
    order = Draws(seed, [0], "folds").each("order")[0].permutation(np.asarray(evaluated))
    halves = [sorted(order[: len(order) // 2].tolist()), sorted(order[len(order) // 2 :].tolist())]
    of = {index: fold for fold, half in enumerate(halves) for index in half}
    return Source(data, [sorted(others + halves[1]), sorted(others + halves[0])], of)


def _apart(own: Data, data: Data, evaluated: Sequence[int], threat: Fitted) -> Source:
    """All images of its own that are none of the evaluated ones; a picture is known again by its file and its label."""
    known = set(marks(data, evaluated).values())
    mine = marks(own, range(len(own))) if known else {}
    kept = [index for index in range(len(own)) if mine.get(index) not in known]
    notes = []
    if len(kept) < len(own):
        if len(kept) < 2:
            raise UserError(
                f"{len(own) - len(kept)} of the {len(own)} images of {threat.data} are evaluated",
                "what is fitted on an image and tried on it says nothing of others",
                "leave data= out: then those are taken that are not evaluated, or else each half for the other",
            )
        notes.append(
            f"{threat.spec}: {len(own) - len(kept)} of the {len(own)} images of {threat.data} are evaluated, and "
            "nothing is fitted on them"
        )
    ways = [way for way in (_how_read(own), _how_read(data)) if way]
    if len(set(ways)) > 1:
        notes.append(
            f"{threat.spec}: {threat.data} and the evaluated images are read in different ways, so that nobody can "
            "tell whether some are in both; if so, what is left under this threat is too little"
        )
    return Source(own, [kept], notes=tuple(notes))


def _how_read(data: Data) -> tuple[Any, ...]:
    """Images that are read alike have the same identity wherever they lie; those of a world are nowhere else."""
    while isinstance(data, Part):
        data = data.whole
    if not isinstance(data, Pictures):
        return ()
    return type(data), data.size, data.channels


def fit(threat: Fitted, model: Model, where: Source, names: dict[str, str], path: Path) -> None:
    """Search, and write what was found as PATH, with a picture beside it."""
    deltas, said, seen, began = [], [], [], time.perf_counter()
    for indices in where.folds:
        pool = Pool(where.data, indices, threat.images, threat.seed, model.device)
        delta, facts = threat.search(model, pool)
        deltas.append(delta.detach().float().cpu())
        seen.append(pool.marks)
        shown = pool.batch(pool.select[:SHOWN])
        moved = threat.pack(deltas[-1][None], {}, {}).on(shown.images, shown.keys)
        said.append({**facts, **portrait(delta, model, shown, moved)})
    seconds = round(time.perf_counter() - began, 3)
    found = threat.pack(torch.stack(deltas), {**names, "seconds": seconds, "folds": said}, where.of)
    found = replace(found, seen=tuple(seen))
    for number, delta in enumerate(deltas):
        save_picture(delta, path.with_name(f"{path.stem}{f'.{number}' if len(deltas) > 1 else ''}.png"))
    found.save(path)


def ready(threat: Fitted, path: Path) -> Fitted:
    """The threat with what was found for it."""
    return replace(threat, found=_load(path))


@lru_cache(maxsize=32)
def _load(path: Path) -> Found:
    return Found.load(path)
