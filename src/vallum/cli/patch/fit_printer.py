"""`vallum patch fit-printer`: a photographed colour chart becomes a model of printer and camera."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fit_printer(
    chart: Annotated[Path, typer.Argument(help="Folder that `vallum patch chart` wrote.", metavar="CHART")],
    photos: Annotated[list[Path], typer.Argument(help="Photographs of it; several are averaged.", metavar="PHOTO...")],
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
) -> None:
    """Learn what printer, paper and camera do to colours, so that patches are made for what will be seen.

    Among several forms that one is kept which foretells best the colours that it was not fitted to.

    ```
    vallum patch fit-printer runs/chart chart.jpg --out runs/printer
    ```
    """
    from vallum.defences.defensive_patches.printing.fitting import fit_printer
    from vallum.errors import printable

    found = fit_printer(chart, photos)
    for form, error in found.errors.items():
        typer.echo(f"{form}: off by {255 * error:.2f} of 255 on held-out colours")
    typer.echo(f"light on the page: {found.uneven:.2f} times as bright where it is brightest, evened out")
    facts = {"error": found.error, "errors": found.errors, "cells": found.cells, "uneven": found.uneven}
    typer.echo(f"{found.cells} colours, off by {255 * found.error:.2f} of 255: "
               f"{printable(str(found.printer.save(out, **facts)))}")  # fmt: skip
