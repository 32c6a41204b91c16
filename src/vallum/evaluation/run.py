"""A finished, or half finished, evaluation: a folder, and what can be asked of it."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from vallum.errors import UserError
from vallum.evaluation.plan import Plan
from vallum.evaluation.store import Finished, Store
from vallum.evaluation.summary import Outcome, comparisons, outcomes, summary


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
        try:
            return self.store.connect(self.plan).sql(sql)
        except duckdb.IOException as problem:
            raise UserError(
                "a result file is damaged", str(problem).splitlines()[0], "delete it, and run again"
            ) from None
        except duckdb.Error as problem:
            columns = "model, threat, surface, key, name, label, prediction, correct, accuracy, loss, linf, l2, l1"
            first = " ".join(str(problem).split())[:300]
            raise UserError("that SQL cannot be run", first, f"the table is `rows`, its columns {columns}") from None

    @cached_property
    def finished(self) -> dict[str, Finished]:
        """What each finished cell took."""
        return self.store.finished(self.plan.cells())

    @cached_property
    def outcomes(self) -> list[Outcome]:
        columns = 'model, threat, surface, key, accuracy, intersection, "union"'
        return outcomes(self.plan, self.query(f"SELECT {columns} FROM rows").fetchall(), self.finished)

    @property
    def left_out(self) -> dict[str, str]:
        """Images that could not be read, and why."""
        return {name: why for cell in self.finished.values() for name, why in cell.left_out.items()}

    @cached_property
    def summary(self) -> list[dict[str, Any]]:
        """A row per model, threat, surface and metric: value, low, high, n, forwards, backwards, seconds."""
        return summary(self.outcomes)

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """A row per threat and pair of models on the same images."""
        return comparisons(self.outcomes)

    @property
    def environment(self) -> dict[str, Any]:
        path = self.folder / "environment.json"
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def conclude(self, environment: dict[str, Any]) -> None:
        """Write what people and programs read beside the rows."""
        facts = {**environment, "images left out": self.left_out}
        for name, what in (
            ("summary", self.summary),
            ("comparisons", self.comparisons),
            ("environment", facts),
        ):
            self.store.write_text(f"{name}.json", json.dumps(what, indent=1))
