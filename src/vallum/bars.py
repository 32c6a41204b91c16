"""The bar with an estimate that everything over two seconds shows in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def estimated(console: Console, shown: bool = True, says: bool = False, seconds: float = 30.0) -> Progress:
    """A bar that shows nothing where nobody watches; with room for what it `says`, a field of that name of its task.

    Its speed is that of the last `seconds`.

    >>> estimated(Console(), shown=False).disable
    True
    """
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn()]
    if says:
        columns.append(TextColumn("{task.fields[said]}", markup=False))
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    watched = shown and console.is_terminal
    return Progress(*columns, console=console, speed_estimate_period=seconds, disable=not watched)
