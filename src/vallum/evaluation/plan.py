"""What an evaluation consists of: a grid of cells, each independent of every other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

from vallum.errors import UserError


@dataclass(frozen=True)
class PlannedThreat:
    spec: str
    kind: str
    surfaces: bool  # whether it depends on the model, and so on the surface
    passes: float  # about how many forward passes it takes per image: the weight of a cell in the progress bar
    fitting: float = 0.0  # as many as it takes to be fitted, where it is
    fingerprint: str = ""  # of what it depends on beside its spec: a file, or the images that it is fitted on


@dataclass(frozen=True)
class PlannedModel:
    name: str  # what tables call it
    spec: str
    fingerprint: str  # of its weights
    surfaces: tuple[str, ...]
    ignorant: tuple[str, ...] = ()  # those of the surfaces whose attacker does not know of the defence
    weights: tuple[float, ...] = ()  # for each surface how much longer an attack takes there, about
    diagnostic: tuple[str, ...] = ()  # those that are shown beside the worst case, and are no part of it
    left_out: tuple[tuple[str, str], ...] = ()  # (surface, threat) where the one has no use for the other
    unfitted: tuple[tuple[str, str], ...] = ()  # (surface, threat) where the threat becomes one that needs no fitting
    draws: int = 1  # how often it is asked about an image that was found: more than once where it draws at random

    def meeting(self, threat: PlannedThreat) -> dict[str, float]:
        """The surfaces on which it meets this threat, and how much longer each takes: noise needs no way in."""
        weights = dict(zip(self.surfaces, self.weights or repeat(1.0), strict=False))
        wanted = self.surfaces if threat.surfaces else self.surfaces[:1]
        return {name: weights[name] for name in wanted if (name, threat.spec) not in self.left_out}


@dataclass(frozen=True)
class Cell:
    """One batch of images under one threat, for one model through one surface."""

    id: str
    model: int
    threat: int
    surface: str
    images: tuple[int, ...]
    weight: float
    pictures: tuple[int, ...] = ()  # those of the images of which a picture is kept


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
    pictures: tuple[int, ...] = ()  # the images of which pictures are kept: no row depends on it

    def cells(self) -> Iterator[Cell]:
        """Cheap threats first, so that something can be seen early."""
        shards = [self.images[start : start + self.batch_size] for start in range(0, len(self.images), self.batch_size)]
        kept = set(self.pictures)
        for t, threat in sorted(enumerate(self.threats), key=lambda pair: pair[1].passes):
            for shard in shards:
                for m, model in enumerate(self.models):
                    for surface, slower in model.meeting(threat).items():
                        weight = threat.passes * len(shard) * slower
                        pictures = tuple(image for image in shard if image in kept)
                        yield Cell(self._id(model, threat, surface, shard), m, t, surface, shard, weight, pictures)

    def fits(self) -> Iterator[Fit]:
        """What must be found before the cells of some threats can be worked."""
        for t, threat in enumerate(self.threats):
            if threat.fitting:
                for m, model in enumerate(self.models):
                    for surface in model.meeting(threat):
                        if (surface, threat.spec) not in model.unfitted:
                            yield Fit(self._id(model, threat, surface, ()), m, t, surface, (), threat.fitting)

    def fit_of(self, cell: Cell) -> Fit | None:
        """What the threat of this cell was fitted by, if it is one of those."""
        model, threat = self.models[cell.model], self.threats[cell.threat]
        if not threat.fitting or (cell.surface, threat.spec) in model.unfitted:
            return None
        return Fit(self._id(model, threat, cell.surface, ()), cell.model, cell.threat, cell.surface, (), threat.fitting)

    def _id(self, model: PlannedModel, threat: PlannedThreat, surface: str, shard: tuple[int, ...]) -> str:
        """A name that says what the rows depend on, so that none is ever taken for another."""
        mine = (model.spec, model.name, model.fingerprint, model.draws)
        parts = (*mine, threat.spec + threat.fingerprint, surface, shard, self.data_fingerprint)
        settings = (self.batch_size, self.threads, self.device, self.seed)
        return hashlib.blake2b(repr((parts, settings)).encode(), digest_size=12).hexdigest()

    @property
    def kinds(self) -> dict[str, str]:
        """Of each threat by its spec: clean, noise, corruption or attack."""
        return {threat.spec: threat.kind for threat in self.threats}

    @property
    def id(self) -> str:
        """Names the default run folder, so that the same command finds its own run again."""
        return hashlib.blake2b(replace(self, pictures=()).to_json().encode(), digest_size=5).hexdigest()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "plan.json") -> Plan:
        try:
            found: dict[str, Any] = json.loads(text)
            found["models"] = tuple(
                PlannedModel(**{name: _frozen(value) for name, value in m.items()}) for m in found["models"]
            )
            found["threats"] = tuple(PlannedThreat(**t) for t in found["threats"])
            found["classes"], found["images"] = tuple(found["classes"]), tuple(found["images"])
            found["pictures"] = tuple(found.get("pictures", ()))
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


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value
