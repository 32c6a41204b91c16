"""`vallum patch`: stickers around an object that help models see what it is."""

from __future__ import annotations

import typer

from vallum.cli.patch.chart import chart
from vallum.cli.patch.fit_printer import fit_printer
from vallum.cli.patch.printing import print_
from vallum.cli.patch.rectify import rectify

patch = typer.Typer(
    name="patch",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="""Stickers around an object that help models see what it is: print them, photograph them.

    ```
    vallum patch print runs/patches --object-width 600mm --out runs/print
    vallum patch rectify photos/*.jpg --sheet runs/print --out runs/photos
    vallum evaluate builtin:signs_resnet --data folder:runs/photos
    ```
    """,
)
patch.command("print")(print_)
patch.command()(rectify)
patch.command()(chart)
patch.command("fit-printer")(fit_printer)

__all__ = ["patch"]
