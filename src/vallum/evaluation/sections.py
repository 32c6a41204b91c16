"""What a run holds beside its rows: results of other kinds, that the report draws in sections of their own.

An evaluation, a defence or a script makes one and writes it into the run's folder; `vallum report` finds it there.

>>> import tempfile
>>> folder = tempfile.mkdtemp()
>>> keep = Tradeoff("How much to keep", "share kept", (0.25, 0.5, 1.0), (Line("clean", (0.6, 0.8, 0.9)),))
>>> write(folder, keep).name
'tradeoff-how-much-to-keep-1a9d267f.json'
>>> read(folder) == [keep]
True
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from vallum.errors import UserError
from vallum.evaluation.store import explained, write_text

FOLDER = "sections"  # in a run's folder: a JSON file for each


@dataclass(frozen=True)
class Line:
    """Values at the places of an axis, with their intervals where there are any; rates are in [0, 1]."""

    name: str
    values: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Check:
    """One question an audit asked of an evaluation, and what came of it."""

    name: str
    done: str  # what was done to find out
    seen: str  # what came of it
    verdict: Literal["passed", "doubtful", "failed"]
    remedy: str = ""  # what to do, where it did not pass


@dataclass(frozen=True)
class Point:
    """What something costs and what it brings, with the interval of that."""

    name: str
    cost: float
    benefit: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Section:
    """A result with a title, and a note that says how to read it."""

    kind: ClassVar[str]
    title: str

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(f"{each.name} of {self.title!r}", getattr(self, each.name))


@dataclass(frozen=True)
class Tradeoff(Section):
    """Curves over a defence's own knob; the report has a slider that reads out the point."""

    kind = "tradeoff"
    knob: str
    settings: tuple[float, ...]  # of the knob, in order
    lines: tuple[Line, ...] = field(metadata={"of": Line})
    chosen: float | None = None  # the setting that is in use
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_lines(self.title, self.settings, self.lines)


@dataclass(frozen=True)
class Certified(Section):
    """The share of images proven right within a radius, by radius."""

    kind = "certified"
    norm: str  # "2", "inf"
    radii: tuple[float, ...]
    lines: tuple[Line, ...] = field(metadata={"of": Line})
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_lines(self.title, self.radii, self.lines)


@dataclass(frozen=True, eq=False)
class Universal(Section):
    """One perturbation for all images: its picture, its spectrum, and where it sends them."""

    kind = "universal"
    perturbation: np.ndarray = field(metadata={"of": np.ndarray})  # (C, H, W), what is added to images in [0, 1]
    eps: float
    norm: str
    fooled: float  # the share of images whose answer it changes
    images: int  # on how many that was measured; 0 where it is a share of something else, as pixels
    answers: dict[str, float] = field(default_factory=dict)  # the share of images sent to each class
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.perturbation.ndim != 3 or self.perturbation.shape[0] not in (1, 3):
            shape = self.perturbation.shape
            raise UserError(f"the perturbation of {self.title!r} has shape {shape}", "(1 or 3, height, width)")


@dataclass(frozen=True)
class Matrix(Section):
    """A number for each pair: patches against models, attacks transferred, classes taken for one another."""

    kind = "matrix"
    row_is: str  # what the rows are, as "made on"
    column_is: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # None where nothing was measured
    percent: bool = True  # whether values are rates in [0, 1], or numbers of another kind
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.values) != len(self.rows) or any(len(row) != len(self.columns) for row in self.values):
            wanted = f"{len(self.rows)} rows of {len(self.columns)}"
            raise UserError(f"the values of {self.title!r} do not fit its rows and columns", f"{wanted} are needed")


@dataclass(frozen=True)
class Rates(Section):
    """Rates or differences of rates in a table, with their intervals: what was measured of several things, in words.

    `says` are sentences for the top of the report: what a reader takes away who reads no further.
    """

    kind = "rates"
    row_is: str  # what the rows are, as "model"
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]  # None where nothing was measured
    low: tuple[tuple[float | None, ...], ...]
    high: tuple[tuple[float | None, ...], ...]
    p: tuple[tuple[float | None, ...], ...] = ()  # of a paired test, where there is one
    signed: bool = False  # whether all values are differences
    says: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for numbers in (self.values, self.low, self.high, self.p or self.values):
            if len(numbers) != len(self.rows) or any(len(row) != len(self.columns) for row in numbers):
                wanted = f"{len(self.rows)} rows of {len(self.columns)}"
                raise UserError(
                    f"the numbers of {self.title!r} do not fit its rows and columns", f"{wanted} are needed"
                )


@dataclass(frozen=True)
class Frontier(Section):
    """What each choice costs against what it brings: those that nothing beats in both are the frontier."""

    kind = "frontier"
    cost_is: str  # as "forward passes per image"
    benefit_is: str  # as "accuracy under the worst attack"
    points: tuple[Point, ...] = field(metadata={"of": Point})
    percent: bool = True  # whether benefits are rates in [0, 1]
    note: str = ""


@dataclass(frozen=True)
class Audit(Section):
    """Whether the evaluation itself can be trusted: what was checked, and what was seen."""

    kind = "audit"
    checks: tuple[Check, ...] = field(metadata={"of": Check})
    note: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for check in self.checks:
            if check.verdict not in ("passed", "doubtful", "failed"):
                raise UserError(f"{check.name!r} has the verdict {check.verdict!r}", "passed, doubtful or failed")


KINDS: dict[str, type[Section]] = {
    kind.kind: kind for kind in (Audit, Rates, Tradeoff, Certified, Universal, Matrix, Frontier)
}  # in the report's order


def write(folder: str | os.PathLike[str], section: Section) -> Path:
    """Put a section into a run's folder; one with the same kind and title is replaced."""
    words = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")[:40]
    mark = hashlib.blake2b(section.title.encode(), digest_size=4).hexdigest()
    path = Path(folder) / FOLDER / f"{section.kind}-{words}-{mark}.json"
    write_text(path, json.dumps({"kind": section.kind, **_plain(section)}, indent=1))
    return path


def read(folder: str | os.PathLike[str]) -> list[Section]:
    """All sections of a run, kind by kind."""
    place = Path(folder) / FOLDER
    with explained(place):
        found = [_parsed(path) for path in sorted(place.glob("[!.]*.json"))]
    # What has something to say at the top comes first of its kind.
    return sorted(found, key=lambda one: (list(KINDS).index(one.kind), not getattr(one, "says", ())))


def _plain(thing: Any) -> dict[str, Any]:
    return {each.name: _value(getattr(thing, each.name)) for each in fields(thing)}


def _value(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        exact = np.ascontiguousarray(value, "<f4")
        return {"shape": exact.shape, "float32": base64.b64encode(exact.tobytes()).decode()}
    if isinstance(value, tuple):
        return [_value(one) for one in value]
    return _plain(value) if isinstance(value, Line | Check | Point) else value


def _parsed(path: Path) -> Section:
    try:
        said = json.loads(path.read_bytes())
        made = KINDS[said.pop("kind")]
        inside = {each.name: each.metadata.get("of") for each in fields(made)}
        return made(**{name: _read(value, inside[name]) for name, value in said.items()})
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise UserError(f"{path} is damaged", f"{type(problem).__name__}: {problem}", "delete it") from None


def _read(value: Any, inside: Any) -> Any:
    if inside is np.ndarray:
        exact = np.frombuffer(base64.b64decode(value["float32"], validate=True), "<f4")
        return exact.reshape(value["shape"]).astype(np.float32)
    if inside is not None:
        return tuple(inside(**{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()}) for one in value)
    return tuple(_read(one, None) for one in value) if isinstance(value, list) else value


def _check_lines(title: str, axis: tuple[float, ...], lines: tuple[Line, ...]) -> None:
    for line in lines:
        for what in (line.values, line.low or axis, line.high or axis):
            if len(what) != len(axis):
                raise UserError(f"{line.name!r} of {title!r} has {len(what)} values", f"its axis has {len(axis)}")


def _check(where: str, value: Any) -> None:
    """Raise on a number that is none: JSON has no word for it, and nobody can draw it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is {value}", "numbers are finite", "leave out what was not measured")
    if isinstance(value, np.ndarray) and not np.isfinite(value).all():
        raise UserError(f"{where} holds NaN or infinity", "numbers are finite")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    for one in inside:
        _check(where, one)
    if isinstance(value, Line | Point | Check):
        _check(where, tuple(getattr(value, each.name) for each in fields(value)))
