"""`vallum results`: ask the rows of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def results(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    sql: Annotated[
        str | None, typer.Option(help="A query over the table `rows`, a row per image. Without it: the summary.")
    ] = None,
    format: Annotated[Literal["table", "csv", "json"], typer.Option(help="How to print it.")] = "table",
) -> None:
    """Query a run: a row per image, with model, threat, surface, key, name, label, prediction, correct, loss, ...

    Examples:

        vallum results runs/first

        vallum results runs/first --sql "SELECT label, avg(accuracy) FROM rows WHERE threat != 'clean' GROUP BY label"

        vallum results runs/first --sql "SELECT * FROM rows" --format csv > rows.csv
    """
    import csv
    import json
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vallum.cli.table import print_run
    from vallum.errors import printable
    from vallum.evaluation.run import Run

    found = Run(run)
    if sql is None and format == "table":
        print_run(found)
        return
    if sql is None:
        columns, rows = list(found.summary[0]) if found.summary else [], [tuple(r.values()) for r in found.summary]
    else:
        answer = found.query(sql)
        columns, rows = (answer.columns, answer.fetchall()) if answer is not None else ([], [])
    if format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerows([columns, *rows])
    elif format == "json":
        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1, default=str))
    else:
        table = Table()
        for column in columns:
            table.add_column(Text(printable(column)))
        for row in rows:
            table.add_row(*(Text(printable(str(value))) for value in row))
        Console().print(table)
