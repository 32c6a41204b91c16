"""A run on disk: one Parquet file for each finished cell, written aside and renamed, and DuckDB to read them.

A file that bears its name is whole; whatever kills a run leaves at most a file under a temporary name. Each holds a
hash of itself, so that what a disk or a copy spoils later is noticed, and computed anew.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb

from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.evaluation.pictures import COLUMNS as PICTURES
from vallum.evaluation.plan import Cell, Fit, Plan

COLUMNS = {  # a row per image
    "model": "VARCHAR",
    "threat": "VARCHAR",
    "surface": "VARCHAR",
    "key": "BIGINT",  # the image's place in its data set
    "name": "VARCHAR",
    "label": "INTEGER",  # classification only
    "prediction": "INTEGER",  # classification only
    "correct": "BOOLEAN",  # classification only
    "accuracy": "DOUBLE",  # 0 or 1 for a classifier, the share of valid pixels for a segmenter; the mean over draws
    "majority": "DOUBLE",  # whether most draws were right: only where a classifier draws at random
    "worst": "DOUBLE",  # the accuracy of the worst draw: only where the model draws at random
    "loss": "DOUBLE",  # cross-entropy of the true label
    "linf": "DOUBLE",  # how far the image was moved
    "l2": "DOUBLE",
    "l1": "DOUBLE",
    "snr": "DOUBLE",  # in dB: 10 log10 of the image's mean square over that of what was done to it; none if nothing was
    "intersection": "BIGINT[]",  # segmentation only: pixels per class, for the IoU
    "union": "BIGINT[]",
}


@dataclass(frozen=True)
class Finished:
    """What a cell took, beside its rows."""

    forwards: int
    backwards: int
    seconds: float
    left_out: dict[str, str]  # images that could not be read, and why


class Store:
    """The folder of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self.pictures = folder / "pictures"

    def begin(self, plan: Plan) -> None:
        """Make the folder this plan's, unless it holds another run."""
        earlier = self.read_plan()
        if earlier is not None:
            plan.refuse_mixing(earlier, str(self.folder))
        with explained(self.folder):
            self.cells.mkdir(parents=True, exist_ok=True)
        self.write_text("plan.json", plan.to_json())

    def path(self, cell: Cell) -> Path:
        if isinstance(cell, Fit):
            return self.folder / "fitted" / f"{cell.id}.safetensors"
        return self.cells / f"{cell.id}.parquet"

    def picture_path(self, cell: Cell) -> Path:
        return self.pictures / f"{cell.id}.parquet"

    def is_done(self, cell: Cell) -> bool:
        return self.has(cell) and (not cell.pictures or _is_whole(self.picture_path(cell)))

    def has(self, cell: Cell) -> bool:
        """Whether its rows are there, if not its pictures."""
        return self.path(cell).is_file() if isinstance(cell, Fit) else _is_whole(self.path(cell))

    def write(self, cell: Cell, rows: list[dict[str, Any]], finished: Finished) -> None:
        shape = json.dumps([COLUMNS])
        facts = {
            "forwards": str(finished.forwards),
            "backwards": str(finished.backwards),
            "seconds": f"{finished.seconds:.3f}",
            "left_out": json.dumps(finished.left_out),
        }
        with explained(self.folder), _database().cursor() as mine:
            mine.execute(
                "CREATE TEMP TABLE held AS SELECT unnest(from_json(?, ?), max_depth := 2)", [_json(rows), shape]
            )
            write_whole(self.path(cell), lambda aside: _write_sealed(mine, facts, aside))

    def write_pictures(self, cell: Cell, pictures: list[Any]) -> None:
        """Keep the cell's pictures, if it is to have any: rows of `pictures.COLUMNS`."""
        if not cell.pictures:
            return
        columns = ", ".join(f'"{name}" {kind}' for name, kind in PICTURES.items())
        with explained(self.folder), _database().cursor() as mine:
            mine.execute(f"CREATE TEMP TABLE held ({columns})")
            if pictures:
                row = f"({', '.join('?' * len(PICTURES))})"
                values = [value for picture in pictures for value in picture]
                mine.execute(f"INSERT INTO held VALUES {', '.join([row] * len(pictures))}", values)
            self.pictures.mkdir(exist_ok=True)
            write_whole(self.picture_path(cell), lambda aside: _write_sealed(mine, {}, aside))

    def read_pictures(self, cells: Iterable[Cell]) -> list[tuple[Any, ...]]:
        """The kept pictures of these cells, as rows of `pictures.COLUMNS`."""
        paths = [str(path) for cell in cells if cell.pictures and (path := self.picture_path(cell)).is_file()]
        _refuse_damaged(paths)
        if not paths:
            return []
        with duckdb.connect() as connection:
            return connection.execute(f"SELECT * FROM read_parquet([{', '.join(map(_quoted, paths))}])").fetchall()

    def read_plan(self) -> Plan | None:
        with explained(self.folder):
            path = self.folder / "plan.json"
            return Plan.from_json(path.read_bytes(), str(path)) if path.is_file() else None

    def write_text(self, name: str, text: str) -> Path:
        write_text(self.folder / name, text)
        return self.folder / name

    def connect(self, plan: Plan) -> duckdb.DuckDBPyConnection:
        """A database with the view `rows`, of all the cells of the plan that are done."""
        paths = [str(self.path(cell)) for cell in plan.cells() if self.path(cell).is_file()]
        _refuse_damaged(paths)
        connection = duckdb.connect()
        if paths:
            listed = ", ".join(map(_quoted, paths))
            connection.execute(f"CREATE VIEW rows AS SELECT * FROM read_parquet([{listed}])")
        else:
            columns = ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())
            connection.execute(f"CREATE TABLE rows ({columns})")
        return connection

    def finished(self, cells: Iterable[Cell]) -> dict[str, Finished]:
        """What each of these cells took, by its id."""
        paths = {str(path): cell.id for cell in cells if (path := self.path(cell)).is_file()}
        if not paths:
            return {}
        found: dict[str, dict[str, str]] = {}
        with duckdb.connect() as connection:
            listed = ", ".join(map(_quoted, paths))
            facts = connection.execute(
                f"SELECT file_name, decode(key), decode(value) FROM parquet_kv_metadata([{listed}])"
            )
            for path, key, value in facts.fetchall():
                found.setdefault(paths[path], {})[key] = value
        return {
            cell: Finished(int(f["forwards"]), int(f["backwards"]), float(f["seconds"]), json.loads(f["left_out"]))
            for cell, f in found.items()
        }


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda aside: aside.write_text(text, "utf-8"))


_SEAL, _UNSEALED = "blake2b:", "0" * 32


def _write_sealed(mine: duckdb.DuckDBPyConnection, facts: dict[str, str], aside: Path) -> None:
    """The table `held` as a result file that says these facts, and after them its seal."""
    said = ", ".join(f"{name}: {_quoted(value)}" for name, value in {**facts, "seal": _SEAL + _UNSEALED}.items())
    mine.execute(f"COPY held TO {_quoted(str(aside))} (FORMAT parquet, KV_METADATA {{{said}}})")
    aside.write_bytes(_sealed(aside.read_bytes()))


def _refuse_damaged(paths: Iterable[str]) -> None:
    for path in paths:
        if not _is_whole(Path(path)):
            raise UserError(f"{path} is damaged", remedy="run the same command again: it is computed anew")


def _sealed(content: bytes) -> bytes:
    """A result file with the hash of all its bytes in the place that its metadata has for it."""
    before, after = _around_seal(content)
    return before + _hash(before, after) + after


def _is_whole(path: Path) -> bool:
    """Whether a result file is there, and no byte of it has changed since it was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    before, after = _around_seal(content)
    return content == before + _hash(before, after) + after


def _around_seal(content: bytes) -> tuple[bytes, bytes]:
    start = content.rfind(_SEAL.encode()) + len(_SEAL)
    return content[:start], content[start + len(_UNSEALED) :]


def _hash(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=len(_UNSEALED) // 2).hexdigest().encode()


@lru_cache(maxsize=1)
def _database() -> duckdb.DuckDBPyConnection:
    """One for the whole process: to open one takes longer than to write a cell."""
    return duckdb.connect()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _json(rows: list[dict[str, Any]]) -> str:
    def said(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps([{name: said(row.get(name)) for name in COLUMNS} for row in rows])


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Disk trouble in words, with what to do; what was finished stays."""
    try:
        yield
    except (OSError, duckdb.IOException) as problem:
        number = getattr(problem, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(problem):
            remedy = "free some space, and run the same command again: finished cells are kept"
            raise UserError(f"the disk that holds {path} is full", remedy=remedy) from None
        reason = getattr(problem, "strerror", None) or str(problem).splitlines()[0]
        raise UserError(f"{path} cannot be written or read", reason, "name a place that you may write") from None
