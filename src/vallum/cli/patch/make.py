"""`vallum patch make`: one patch for each class, for all models in one search."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from vallum.cli.options import IMAGES, RUN, Device, Quiet, Size
from vallum.cli.settings import read_settings, takes_settings
from vallum.defences.defensive_patches.settings import Settings
from vallum.errors import UserError, printable

PATCH, SEARCH = "The patch", "The search"


@takes_settings(Settings, SEARCH)
def make(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="What patches are made for: `builtin:signs_resnet`, a saved folder, ...", metavar="MODEL"),
    ] = None,
    more: Annotated[
        list[str] | None, typer.Option("--models", "--model", help="The same, said with its name.", metavar="MODEL")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the patches; the same command resumes in it.")],
    data: Annotated[
        str, typer.Option(help="`folder:PHOTOS`, `npz:FILE`, `builtin:signs?split=train`, ...", rich_help_panel=IMAGES)
    ] = "builtin:signs?split=train",
    size: Size = None,
    maker: Annotated[
        str,
        typer.Option(
            help="What patches are asked to do: `ensemble:drop=0.3`, `minmax:eps=4/255,where=object`, "
            "`selective:wrong=1,alone=0.3`, `universal`, `consensus:merge=mean`, `unadversarial`, `prior`.",
            rich_help_panel=PATCH,
        ),
    ] = "ensemble",
    shape: Annotated[
        str,
        typer.Option(
            help="`ring:outer=30,inner=26`, `square:10`, `corners:side=7`, `mask:FILE.png`.", rich_help_panel=PATCH
        ),
    ] = "ring",
    colours: Annotated[
        str,
        typer.Option(
            help="`box`, `print` (what a printer reaches), `palette:levels=3` (a few inks), `pixels`.",
            rich_help_panel=PATCH,
        ),
    ] = "box",
    scenes: Annotated[
        str,
        typer.Option(
            help="What comes between a patch and its picture: `plain`, `outdoors`, `outdoors:rotation=20,blur=2`.",
            rich_help_panel=PATCH,
        ),
    ] = "plain",
    printer: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `vallum patch fit-printer`: patches are made for what a camera sees of their print.",
            rich_help_panel=PATCH,
        ),
    ] = None,
    fineness: Annotated[
        int, typer.Option(help="Pixels of the patch for each of the images', each way.", rich_help_panel=PATCH)
    ] = 1,
    start: Annotated[
        str | None,
        typer.Option(
            help="`noise`, `prior` (the patch alone first) or a folder of patches. Default: what suits the maker.",
            rich_help_panel=PATCH,
        ),
    ] = None,
    device: Device = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over, whatever the folder holds.", rich_help_panel=RUN)
    ] = False,
    quiet: Quiet = False,
    **settings: Any,
) -> None:
    r"""Make a patch for each class, with which the models see better what it is stuck on.

    All classes and all models are one search. Killed at any moment, the same command goes on from where it was. The
    folder then holds a picture of each patch, `sheet.png` with all of them, and the exact numbers.

    Patches for two models, and what they are worth to a third under noise and attack:

    ```
    vallum patch make builtin:signs_resnet builtin:signs_vit \
        --shape ring --out runs/patches
    vallum evaluate builtin:signs_resnet_robust \
        --data "patched:runs/patches?data=builtin:signs" -n 500
    ```

    To be printed and stuck on outdoors, without passing off one thing as another:

    ```
    vallum patch make builtin:signs_resnet --maker selective:wrong=1 \
        --colours print --scenes outdoors --fineness 4 --out runs/stickers
    ```
    """
    import vallum
    from vallum.defences.defensive_patches.make import SHEET, make_patches
    from vallum.defences.defensive_patches.printing.printer import load_printer

    sources = [*(more or []), *(models or [])]
    if not sources:
        raise UserError(
            "no model is named", "one at least", "write vallum patch make builtin:signs_resnet --out FOLDER"
        )
    what: dict[str, Any] = {"shape": shape, "colours": colours, "scenes": scenes, "fineness": fineness, "start": start}
    how: dict[str, Any] = {"out": out, "device": device, "fresh": fresh, "quiet": quiet}
    how["printer"] = None if printer is None else load_printer(printer)
    images = vallum.load_data(data, size=size)
    patches = make_patches(sources, images, maker, **what, **how, **read_settings(Settings, settings))
    if quiet:
        return
    passes = f"{patches.made['passes']:,} passes of an image through a model and back"
    typer.echo(f"\n{len(patches)} patches on {patches.area:.1%} of an image, after {passes}")
    for name, share in patches.made["told"].items():
        typer.echo(f"{share:6.1%}  {printable(name)}: class told, on the images that the patches were chosen by")
    own = "builtin:signs" if data.startswith("builtin:signs") else data
    again = shlex.join(["vallum", "evaluate", *sources, "--data", f"patched:{out}?data={own}"])
    typer.echo(f"\nSheet: {printable(str(out / SHEET))}\nNext:  {printable(again)}")
