"""`vallum report`: one run or several as a page, as a table for papers, or as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs. Several make one comparison.", metavar="RUN...")],
    format: Annotated[
        Literal["html", "markdown", "latex", "csv", "svg"],
        typer.Option(help="A page, a table for a pull request, for a paper, for a program, or the figures alone."),
    ] = "html",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write it. Default: report.html in the run's folder, comparison.html here for several runs; "
            "figures to a folder `figures`; what is text is printed."
        ),
    ] = None,
    megabytes: Annotated[float, typer.Option(help="At most so many of pictures in a page's gallery.")] = 2.0,
) -> None:
    """Show runs to others: a page that opens offline, tables, figures.

    ```
    vallum report runs/first
    vallum report runs/first --format markdown > comment.md
    vallum report runs/first --format svg --out figures
    ```

    Several runs on the same images become one comparison with paired tests, whoever made them and when; runs on
    different images stand apart on the page, for their numbers cannot be compared:

    ```
    vallum report runs/plain runs/hardened --out both.html
    ```
    """
    from vallum.errors import printable
    from vallum.evaluation.run import Run
    from vallum.evaluation.store import write_text
    from vallum.report import write_report
    from vallum.report.export import comma_separated, latex, markdown, write_figures

    found = [Run(run) for run in dict.fromkeys(runs)]
    if format == "html":
        typer.echo(printable(str(write_report(found, out, megabytes=megabytes))))
        return
    if format == "svg":
        for path in write_figures(found, out or Path("figures")):
            typer.echo(printable(str(path)))
        return
    text = {"markdown": markdown, "latex": latex, "csv": comma_separated}[format](found)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(printable(str(out)))
