"""A finished, or half finished, evaluation: a folder, and what can be asked of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from vallum.errors import UserError
from vallum.evaluation.fitted import facts_of, took
from vallum.evaluation.pictures import Picture, read
from vallum.evaluation.plan import Fit, Plan
from vallum.evaluation.store import COLUMNS, Finished, Store
from vallum.evaluation.summary import Outcome, comparisons, singles, summary, together

LEFT_OUT = "images left out"  # a key of environment.json


class Run:
    """The folder that `evaluate` leaves: a Parquet file per cell, the plan, and what was summed up as JSON."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.store = Store(self.folder)
        plan = self.store.read_plan()
        if plan is None:
            raise UserError(
                f"{self.folder} holds no run", "there is no plan.json", "name what `vallum evaluate` gave as --out"
            )
        self.plan: Plan = plan

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def query(self, sql: str) -> duckdb.DuckDBPyRelation:
        """Ask the rows: a table `rows` with a row per image.

        >>> Run("runs/first").query("SELECT threat, avg(accuracy) FROM rows GROUP BY ALL")  # doctest: +SKIP
        """
        with _explained():
            answer = self.store.connect(self.plan).sql(sql)
        if answer is None:
            raise UserError("that SQL asks for nothing", "a query", 'write "SELECT * FROM rows LIMIT 5"')
        return answer

    def fetch(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """The names of an answer's columns, and all its rows."""
        answer = self.query(sql)
        with _explained():  # what is wrong with a value shows only when it is met
            return list(answer.columns), answer.fetchall()

    @cached_property
    def finished(self) -> dict[str, Finished]:
        """What each finished cell took."""
        found = {fit.id: took(self.store.path(fit)) for fit in self._fitted}
        return {**found, **self.store.finished(self.plan.cells())}

    @property
    def _fitted(self) -> list[Fit]:
        return [fit for fit in self.plan.fits() if self.store.is_done(fit)]

    @property
    def perturbations(self) -> list[dict[str, Any]]:
        """What was fitted to each model: its file, how it was found, what it looks like and what it does.

        `perturbation:PATH` is the threat that tries one on other models.
        """
        return [{"path": str(path), **facts_of(path)} for path in map(self.store.path, self._fitted)]

    @cached_property
    def singles(self) -> list[Outcome]:
        """What was measured of each model under each threat through each surface."""
        columns = 'model, threat, surface, key, accuracy, intersection, "union", majority, worst'
        return singles(self.plan, self.fetch(f"SELECT {columns} FROM rows")[1], self.finished)

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """The same, with the unions over surfaces and the worst attack."""
        return together(self.plan.models, self.plan.threats, self.singles)

    @property
    def left_alone(self) -> list[tuple[str, str, int, int]]:
        """Model, threat, how many images came back right and unmoved from every surface, and of how many."""
        each = "SELECT model, threat, key, max(linf) = 0 AND min(accuracy) > 0 AS idle FROM rows GROUP BY ALL"
        counted = f"SELECT model, threat, count_if(idle), count(*) FROM ({each}) GROUP BY ALL HAVING count_if(idle) > 0"
        return [(model, threat, left, every) for model, threat, left, every in self.fetch(f"{counted} ORDER BY ALL")[1]]

    @property
    def unfinished(self) -> int:
        """How many cells of the plan are still to be worked."""
        return sum(1 for _ in (*self.plan.fits(), *self.plan.cells())) - len(self.finished)

    @property
    def left_out(self) -> dict[str, str]:
        """Images that could not be read, folders that hold none and the like, with the reason."""
        return {**self.environment.get(LEFT_OUT, {}), **self._left_out_by_cells}

    @cached_property
    def _left_out_by_cells(self) -> dict[str, str]:
        return {name: why for cell in self.finished.values() for name, why in cell.left_out.items()}

    @property
    def measured(self) -> int:
        """How many of the images have a row."""
        return max((len(one.keys) for one in self.outcomes), default=0)

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """A row per model, threat, surface and metric: value, low, high, n, forwards, backwards, seconds."""
        return summary(self.outcomes)

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """A row per threat and pair of models on the same images."""
        return comparisons(self.outcomes)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The pictures that were kept of a few images: `pictures=` of `evaluate`."""
        return [read(row) for row in self.store.read_pictures(self.plan.cells())]

    @property
    def environment(self) -> dict[str, Any]:
        """Command, versions, hardware and notes of the call that finished the run."""
        path = self.folder / "environment.json"
        try:
            found = json.loads(path.read_bytes()) if path.is_file() else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"{path} is damaged", remedy="delete it, and run the same command again")
        return found

    def conclude(self, environment: dict[str, Any], left_out: dict[str, str]) -> None:
        """Write what people and programs read beside the rows; `left_out` is what no cell met, as an empty folder."""
        facts = {**environment, LEFT_OUT: {**left_out, **self._left_out_by_cells}}
        for name, what in (("summary", self.summary), ("comparisons", self.comparisons), ("environment", facts)):
            self.store.write_text(f"{name}.json", json.dumps(what, indent=1))


@contextmanager
def _explained() -> Iterator[None]:
    """What is wrong with a query, with what it could ask."""
    try:
        yield
    except duckdb.Error as problem:
        said = " ".join(str(problem).split())[:300]
        columns = ", ".join(COLUMNS)
        raise UserError("that SQL cannot be run", said, f"the table is `rows`, its columns {columns}") from None
