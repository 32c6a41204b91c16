"""`vallum patch chart`: colours to print, from which a printer is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def chart(
    out: Annotated[Path, typer.Option(help="Folder for chart.pdf and sheet.json.")],
    levels: Annotated[int, typer.Option(help="Steps of each channel: 6 make 216 colours.")] = 6,
    page: Annotated[str, typer.Option(help="Paper, as for `vallum patch print`.")] = "a4",
) -> None:
    """Print a page of colours, by which your printer, your paper and your camera are learnt.

    Print it as you will print patches, photograph it as you will photograph them, from the front and in even light:

    ```
    vallum patch chart --out runs/chart
    vallum patch fit-printer runs/chart chart.jpg --out runs/printer
    ```
    """
    from vallum.defences.defensive_patches.printing.chart import print_chart
    from vallum.errors import printable

    pdf, made = print_chart(out, levels=levels, page=page)
    typer.echo(f"{made.rows} by {made.columns} cells of {made.cell:.1f} mm: {printable(str(pdf))}")
