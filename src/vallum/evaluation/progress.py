"""A bar with an estimate, in a terminal; a line now and then where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from vallum.bars import estimated
from vallum.errors import printable
from vallum.evaluation.plan import Cell, Plan

EVERY = 30.0  # seconds between lines where no bar can be drawn


class Progress:
    """Cells weigh what they cost, so that the estimate holds when cheap threats are followed by dear ones."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell], plan: Plan, *, shown: bool) -> None:
        self.plan, self.shown, self.cells, self.left = plan, shown, len(cells), len(todo)
        self.weight, self.total = 0.0, sum(cell.weight for cell in todo)
        self.first = 0.0  # the weight of the first cell, which takes longer: workers start
        self.console = Console(file=sys.stderr)
        self.bar = estimated(self.console, shown)

    def __enter__(self) -> Progress:
        if self.shown and self.left < self.cells:
            self.console.print(f"{self.cells - self.left} of {self.cells} cells are done already", highlight=False)
        self.bar.start()
        self.task = self.bar.add_task("starting", total=self.total)
        self.spoken = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def done(self, cell: Cell) -> None:
        self.left -= 1
        self.weight += cell.weight
        what = printable(f"{self.plan.models[cell.model].name}, {self.plan.threats[cell.threat].spec}")
        self.bar.update(self.task, completed=self.weight, description=what[:50])
        now = time.monotonic()
        if not self.first:
            self.first, self.started = self.weight, now
        elif self.shown and not self.console.is_terminal and now - self.spoken > EVERY:
            self.spoken = now
            remaining = (now - self.started) * (self.total - self.weight) / (self.weight - self.first)
            text = f"{self.cells - self.left} of {self.cells} cells done, about {remaining:.0f} s left ({what})"
            self.console.print(Text(text), soft_wrap=True)
