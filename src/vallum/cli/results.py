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
    r"""Show what a run found, or ask its rows in SQL.

    The table `rows` has a row per image: model, threat, surface, key, name, label, prediction, correct, accuracy,
    loss, linf, l2, l1, snr, and for segmenters intersection and union. An answer that is wider than the terminal is
    printed a row at a time.

    ```
    vallum results runs/first
    vallum results runs/first --format json
    ```

    Which classes suffer most under attack, and all rows for another program:

    ```
    vallum results runs/first --sql "SELECT label, avg(accuracy) FROM rows
        WHERE threat LIKE 'pgd%' GROUP BY label ORDER BY 2"

    vallum results runs/first --sql "SELECT * FROM rows" --format csv > rows.csv
    ```
    """
    import csv
    import json
    import sys

    from vallum.cli.table import print_rows, print_run
    from vallum.errors import printable
    from vallum.evaluation.run import Run

    found = Run(run)
    if sql is None and format == "table":
        print_run(found)
        return
    if sql is None:
        columns, rows = list(found.summary[0]) if found.summary else [], [tuple(r.values()) for r in found.summary]
    else:
        columns, rows = found.fetch(sql)
    if format == "json":
        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=1, default=str))
        return
    if format == "csv":
        texts = [[printable(str("" if value is None else value)) for value in row] for row in (columns, *rows)]
        csv.writer(sys.stdout, lineterminator="\n").writerows(texts)
    else:
        print_rows(columns, rows)
