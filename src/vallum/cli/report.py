"""`vallum report`: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write it. Default: report.html in the run's folder.")
    ] = None,
) -> None:
    """Write a run as one HTML page that opens offline.

    ```
    vallum report runs/first --out first.html
    ```
    """
    from vallum.errors import printable
    from vallum.evaluation.run import Run
    from vallum.report import write_report

    typer.echo(printable(str(write_report(Run(run), out))))
