"""`vallum patch print`: patches on paper, at true size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LAYOUT, PAPER = "The card", "Paper"  # panels of the help


def print_(
    patches: Annotated[Path, typer.Argument(help="A folder of patches.", metavar="FOLDER")],
    object_width: Annotated[
        str, typer.Option(help="How wide the object is that the patch goes around: `600mm`, `60cm`, `24in`.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for patches.pdf, a PNG for each patch, and sheet.json.")],
    classes: Annotated[
        str | None, typer.Option(help="Only these, names or numbers: `stop,give way`. Default: all.")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(
            help="Paper: `a4` and other ISO sizes, `letter`, `tabloid`, or `300mmx400mm`. Default: a page of its own "
            "size for each patch.",
            rich_help_panel=PAPER,
        ),
    ] = None,
    tile: Annotated[
        bool, typer.Option("--tile", help="Spread each patch over several sheets.", rich_help_panel=PAPER)
    ] = False,
    margin: Annotated[
        str, typer.Option(help="What the printer leaves blank at each edge.", rich_help_panel=PAPER)
    ] = "6mm",
    overlap: Annotated[str, typer.Option(help="Of neighbouring tiles.", rich_help_panel=PAPER)] = "10mm",
    marker: Annotated[
        float,
        typer.Option(help="Side of a fiducial, in widths of the image; larger ones are found from farther away.",
                     rich_help_panel=LAYOUT),
    ] = 0.125,
    fiducials: Annotated[
        bool, typer.Option(help="Markers at the corners, by which photos are straightened.", rich_help_panel=LAYOUT)
    ] = True,
    dpi: Annotated[float, typer.Option(help="Dots per inch of the PNGs, at most.", rich_help_panel=LAYOUT)] = 300,
    font: Annotated[
        Path | None, typer.Option(help="A TrueType file, for names beyond Latin letters.", rich_help_panel=LAYOUT)
    ] = None,
) -> None:  # fmt: skip
    r"""Print patches at true size: a PDF with crop marks, fiducials, a scale bar and names.

    Cut along the crop marks, cut out what is dashed, put it around the object. The PDF asks the viewer not to scale
    it: measure the scale bar before you cut.

    ```
    vallum patch print runs/patches --object-width 600mm --out runs/print
    vallum patch print runs/patches --object-width 100mm --page a4 \
        --classes "stop,give way" --out runs/print
    vallum patch print runs/patches --object-width 600mm --page a3 --tile \
        --out runs/print
    ```
    """
    from vallum.defences.defensive_patches.patch_set import PatchSet
    from vallum.defences.defensive_patches.printing.lengths import millimetres, said
    from vallum.defences.defensive_patches.printing.press import print_patches
    from vallum.errors import printable

    done = print_patches(
        PatchSet.load(patches), millimetres(object_width), out,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        page=page, tile=tile, margin=millimetres(margin), overlap=millimetres(overlap), marker=marker,
        fiducials=fiducials, dpi=dpi, font=font,
    )  # fmt: skip
    card = done.card
    left, top, right, bottom = card.patch
    wide, tall = card.edge[2] - card.edge[0], card.edge[3] - card.edge[1]
    typer.echo(f"object {said(card.object_width)} wide, {card.pixel:.2f} mm per pixel of the patch")
    typer.echo(f"patch {said(right - left)} by {said(bottom - top)}, trimmed card {said(wide)} by {said(tall)}")
    pages = "1 page" if len(done.pages) == 1 else f"{len(done.pages)} pages"
    typer.echo(f"{pages} of {said(done.pages[0].width)} by {said(done.pages[0].height)}: {printable(str(done.pdf))}")
    typer.echo(f"{len(done.pngs)} PNG: {printable(str(out / 'png'))}")
    if done.sheet:
        typer.echo(f"For `vallum patch rectify --sheet`: {printable(str(done.sheet))}")
