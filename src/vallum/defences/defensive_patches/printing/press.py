"""From a set of patches to a folder for the printer: patches.pdf, a PNG for each, and sheet.json for photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.printing import markers, pages
from vallum.defences.defensive_patches.printing.card import MARKER, Card
from vallum.defences.defensive_patches.printing.lengths import paper
from vallum.defences.defensive_patches.printing.pdf import check_letters, write_pdf
from vallum.defences.defensive_patches.printing.png import raster, write_png
from vallum.defences.defensive_patches.printing.sheet import Sheet
from vallum.errors import UserError, did_you_mean

DOTS = 64  # at most, for each of a patch's pixels: they are squares, more dots say nothing


@dataclass(frozen=True)
class Printed:
    card: Card
    pages: Sequence[pages.Page]
    pdf: Path | None
    pngs: Sequence[Path]
    sheet: Path | None


def print_patches(
    patches: PatchSet,
    object_width: float,
    out: str | Path,
    *,
    classes: Sequence[str] | None = None,
    page: str | None = None,
    tile: bool = False,
    margin: float = 6.0,
    overlap: float = 10.0,
    marker: float = MARKER,
    fiducials: bool = True,
    dpi: float = 300.0,
    formats: Sequence[str] = ("pdf", "png"),
    font: Path | None = None,
) -> Printed:
    """Write the cards of some or all classes so that the object, `object_width` mm wide, fits into them.

    `page`: a paper as `a4`, filled with as many cards as it holds, or, with `tile`, several for each card. None: a page
    for each card, as large as it needs to be.
    """
    card = Card.of(patches, object_width, marker, fiducials)
    chosen = _chosen(patches, classes)
    # A card's number is its class where the markers reach that far, so that prints of other days do not collide.
    direct = max(chosen) < markers.CARDS
    numbers = {which: which if direct else place for place, which in enumerate(chosen)}
    if fiducials:
        markers.check_card(max(numbers.values()))
    names = ("all classes",) if patches.universal else patches.classes
    blocks = [pages.Block(names[w], card.block, card.drawing(w, numbers[w], names[w])) for w in chosen]
    if font is None:
        check_letters(" ".join(block.name for block in blocks))
    if page is None and tile:
        raise UserError("--tile without --page", "tiles are sheets of some paper", "add --page a4")
    if page is None:
        laid = pages.own_pages(blocks, 0.0)
    elif tile:
        laid = pages.tiles(blocks, paper(page), margin, overlap)
    else:
        widest = widest_on(card, paper(page), margin)
        smaller = f"print for an object of at most {widest} mm, " if widest >= 1 else ""
        remedy = smaller + "take larger --page, spread it over several with --tile, or leave --page away"
        laid = pages.sheets(blocks, paper(page), margin, remedy)
    out = Path(out).expanduser()
    pdf = write_pdf(out / "patches.pdf", laid, f"Defensive patches, object {object_width:g} mm wide", font) \
        if "pdf" in formats else None  # fmt: skip
    pngs = []
    if "png" in formats:
        dots = min(max(round(card.pixel * dpi / 25.4), 1), DOTS)
        for which in chosen:
            drawing = card.drawing(which, numbers[which], names[which], trimmed=True)
            picture = raster(drawing, card.edge, dots / card.pixel, font)
            pngs.append(write_png(out / "png" / patches.picture_names()[which], picture, dots / card.pixel))
    # All cards that look so, whenever they are printed: a later print of other classes takes nothing away.
    known = {which: which for which in range(min(len(patches), markers.CARDS))} if direct else numbers
    sheet = sheet_of(card, known).save(out) if fiducials else None
    return Printed(card, laid, pdf, pngs, sheet)


def widest_on(card: Card, sheet: tuple[float, float], margin: float) -> int:
    """The widest object whose card fits on a sheet, in whole millimetres rounded down."""
    share = card.marker / min(card.image[2:])
    fitting = 0
    for width in (2**power for power in range(12, -1, -1)):  # a search by halves, as sizes grow with the object
        tried = Card.of(card.patches, fitting + width, share or MARKER, bool(share))
        wide, tall = (tried.block[2] - tried.block[0], tried.block[3] - tried.block[1])
        if any(w - 2 * margin >= wide and h - 2 * margin >= tall for w, h in (sheet, sheet[::-1])):
            fitting += width
    return fitting


def sheet_of(card: Card, numbers: dict[int, int]) -> Sheet:
    """`numbers`: of each class's patch, what its markers say."""
    made: dict[str, Any] = {"object_width": card.object_width, "pixel": card.pixel, "patches": card.patches.fingerprint}
    return Sheet(
        tuple(card.marker_squares()), card.marker, card.image[2], card.image[3], card.patches.image_size,
        {number: which for which, number in numbers.items()}, card.patches.classes,
        card.patches.universal, made,
    )  # fmt: skip


def _chosen(patches: PatchSet, names: Sequence[str] | None) -> list[int]:
    if names is None or len(patches) == 1:
        return list(range(len(patches)))
    chosen = []
    for name in names:
        if name in patches.classes:
            chosen.append(patches.classes.index(name))
        elif name.isdecimal() and int(name) < len(patches.classes):
            chosen.append(int(name))
        else:
            raise UserError(f"no class {name!r}", did_you_mean(name, patches.classes))
    return list(dict.fromkeys(chosen))
