"""What an evaluation consists of: a grid of cells, each independent of every other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from vallum.errors import UserError


@dataclass(frozen=True)
class PlannedModel:
    name: str  # what tables call it
    spec: str
    fingerprint: str  # of its weights
    surfaces: tuple[str, ...]
    ignorant: tuple[str, ...]  # those of the surfaces whose attacker does not know of the defence


@dataclass(frozen=True)
class PlannedThreat:
    spec: str
    kind: str
    surfaces: bool  # whether it depends on the model, and so on the surface
    passes: float  # about how many forward passes it takes per image: the weight of a cell in the progress bar
    fitting: float = 0.0  # as many as it takes to be fitted, where it is
    fingerprint: str = ""  # of what it depends on beside its spec: a file, or the images that it is fitted on


@dataclass(frozen=True)
class Cell:
    """One batch of images under one threat, for one model through one surface."""

    id: str
    model: int
    threat: int
    surface: str
    images: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Fit(Cell):
    """The search of a threat that is fitted before any image meets it: a cell without images, and without rows."""


@dataclass(frozen=True)
class Plan:
    """Everything that the rows depend on. Threads and batch size are part of it: they change rounding."""

    models: tuple[PlannedModel, ...]
    threats: tuple[PlannedThreat, ...]
    data: str
    data_fingerprint: str
    task: str
    classes: tuple[str, ...]
    images: tuple[int, ...]
    batch_size: int
    threads: int
    device: str
    seed: int

    def cells(self) -> Iterator[Cell]:
        """Cheap threats first, so that something can be seen early."""
        shards = [self.images[start : start + self.batch_size] for start in range(0, len(self.images), self.batch_size)]
        for t, threat in sorted(enumerate(self.threats), key=lambda pair: pair[1].passes):
            for shard in shards:
                for m, model in enumerate(self.models):
                    for surface in model.surfaces if threat.surfaces else model.surfaces[:1]:
                        weight = threat.passes * len(shard)
                        yield Cell(self._id(model, threat, surface, shard), m, t, surface, shard, weight)

    def fits(self) -> Iterator[Fit]:
        """What must be found before the cells of some threats can be worked."""
        for t, threat in enumerate(self.threats):
            if threat.fitting:
                for m, model in enumerate(self.models):
                    for surface in model.surfaces:
                        yield Fit(self._id(model, threat, surface, ()), m, t, surface, (), threat.fitting)

    def fit_of(self, cell: Cell) -> Fit | None:
        """What the threat of this cell was fitted by, if it is one of those."""
        model, threat = self.models[cell.model], self.threats[cell.threat]
        if not threat.fitting:
            return None
        return Fit(self._id(model, threat, cell.surface, ()), cell.model, cell.threat, cell.surface, (), threat.fitting)

    def _id(self, model: PlannedModel, threat: PlannedThreat, surface: str, shard: tuple[int, ...]) -> str:
        """A name that says what the rows depend on, so that none is ever taken for another."""
        meets = threat.spec + threat.fingerprint
        parts = (model.spec, model.name, model.fingerprint, meets, surface, shard, self.data_fingerprint)
        settings = (self.batch_size, self.threads, self.device, self.seed)
        return hashlib.blake2b(repr((parts, settings)).encode(), digest_size=12).hexdigest()

    @property
    def id(self) -> str:
        """Names the default run folder, so that the same command finds its own run again."""
        return hashlib.blake2b(self.to_json().encode(), digest_size=5).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "plan.json") -> Plan:
        try:
            found: dict[str, Any] = json.loads(text)
            found["models"] = tuple(
                PlannedModel(**{**m, "surfaces": tuple(m["surfaces"]), "ignorant": tuple(m["ignorant"])})
                for m in found["models"]
            )
            found["threats"] = tuple(PlannedThreat(**t) for t in found["threats"])
            found["classes"], found["images"] = tuple(found["classes"]), tuple(found["images"])
            return cls(**found)
        except (ValueError, KeyError, TypeError) as problem:
            raise UserError(
                f"{where} is damaged",
                str(problem),
                "delete it, and run the same command again: finished cells are kept",
            ) from None

    def refuse_mixing(self, earlier: Plan, where: str) -> None:
        """A run folder holds one set of images under one set of settings; models and threats may be added."""
        for field in ("data", "data_fingerprint", "images", "seed", "batch_size", "threads", "device"):
            mine, theirs = getattr(self, field), getattr(earlier, field)
            if mine != theirs:
                said = "" if field == "images" else f" ({theirs} there, {mine} now)"
                raise UserError(
                    f"{where} holds a run with other {field.replace('_', ' ')}{said}",
                    remedy="choose another --out, or repeat the command that made it to resume it",
                )
