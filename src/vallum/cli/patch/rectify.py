"""`vallum patch rectify`: from photographs of printed patches to images that can be evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rectify(
    photos: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.", metavar="PHOTO...")],
    sheet: Annotated[Path, typer.Option(help="Folder that `vallum patch print` wrote, or its sheet.json.")],
    out: Annotated[Path, typer.Option(help="Folder for the images, in a folder for each class.")],
    size: Annotated[
        str | None, typer.Option(help="Of the images, as `64` or `64x96`. Default: that of the patches' images.")
    ] = None,
    shows: Annotated[
        str | None,
        typer.Option(help="The class of the object in these photos, where it is not that of the patch around it."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of photos that went well.")] = False,
) -> None:  # fmt: skip
    """Find printed patches in photographs by their fiducials, and cut out the straightened image.

    A model sees in it what it would see in an image of its data, and `vallum evaluate` reads the folder:

    ```
    vallum patch rectify photos/*.jpg --sheet runs/print --out runs/photos
    vallum evaluate builtin:signs_resnet --data folder:runs/photos
    ```

    With another class's patch around the object, say what the object is:

    ```
    vallum patch rectify wrong/*.jpg --sheet runs/print --shows "give way" --out runs/wrong
    ```
    """
    from vallum.data.request import read_size
    from vallum.defences.defensive_patches.printing.photos import photos_in, rectify_photos
    from vallum.defences.defensive_patches.printing.sheet import Sheet
    from vallum.errors import UserError, printable

    found = photos_in(photos)
    known = Sheet.load(sheet)
    done = rectify_photos(
        found, known, out, size=None if size is None else read_size(size), shows=shows, progress=not quiet
    )
    if not quiet:
        for crop in done.crops:
            bent = " · the paper is bent, or markers are partly hidden" if crop.bent else ""
            typer.echo(
                f"{printable(str(crop.photo))}: {printable(crop.name)}, {crop.markers} markers, "
                f"off by {crop.error:.2f} pixels, {crop.error_mm:.2f} mm{bent}"
            )
    for photo, why in done.failed.items():
        typer.echo(printable(f"{photo}: {why}"), err=True)
    if not done.crops:
        raise UserError(
            f"none of {len(found)} photos shows a card of this sheet", "why is said above", "photograph them again"
        )
    typer.echo(f"{len(done.crops)} images in {printable(str(out))}, {len(done.failed)} photos with trouble")
