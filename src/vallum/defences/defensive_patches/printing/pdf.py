"""Pages as a PDF at true size: vector lines and markers, patches as pixels with sharp edges and exact colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vallum.defences.defensive_patches.printing.drawing import Box, Colour, Item, Line, Picture, Text
from vallum.defences.defensive_patches.printing.lengths import POINT, said
from vallum.defences.defensive_patches.printing.pages import Page
from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.models.making import need

LARGEST = 14400 * POINT  # what a PDF's page may measure
BLOCK = 16  # dots for each of a patch's pixels, so that a printer that smooths pictures smooths none of it away


def write_pdf(path: Path, pages: Sequence[Page], title: str, font: Path | None = None) -> Path:
    """Whole or not at all; the same pages give the same bytes. `font`: a TrueType file, for names beyond Latin."""
    need("reportlab", extra="patches")
    from reportlab.pdfgen.canvas import Canvas

    for page in pages:
        if max(page.width, page.height) > LARGEST:
            raise UserError(
                f"a page of {said(page.width)} by {said(page.height)}", f"a PDF's may measure {said(LARGEST)}",
                "spread it over several sheets: --page a0 --tile",
            )  # fmt: skip

    def write(beside: Path) -> None:
        canvas = Canvas(str(beside), pageCompression=1, invariant=1)
        canvas.setTitle(title)
        canvas.setCreator("vallum")
        canvas.setViewerPreference("PrintScaling", "None")  # or a viewer would shrink it to the printer's margins
        fonts = _fonts(font)
        for page in pages:
            canvas.setPageSize((page.width / POINT, page.height / POINT))
            for placed in page.placed:
                canvas.saveState()
                if placed.clip:
                    left, top, right, bottom = placed.clip
                    clip = canvas.beginPath()
                    clip.rect(*_flipped(page, left, top, right - left, bottom - top))
                    canvas.clipPath(clip, stroke=0, fill=0)
                for item in placed.drawing:
                    _draw(canvas, page, item, placed.x, placed.y, fonts)
                canvas.restoreState()
            canvas.showPage()
        canvas.save()

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, write)
    return path


def _draw(canvas: Any, page: Page, item: Item, x: float, y: float, fonts: tuple[str, str]) -> None:
    if isinstance(item, Box):
        canvas.setFillColorRGB(*_share(item.colour))
        canvas.rect(*_flipped(page, item.left + x, item.top + y, item.width, item.height), stroke=0, fill=1)
    elif isinstance(item, Line):
        canvas.setStrokeColorRGB(*_share(item.colour))
        canvas.setLineWidth(item.thick / POINT)
        canvas.setDash([item.dash / POINT] if item.dash else [])
        ends = [((px + x) / POINT, (page.height - py - y) / POINT) for px, py in (item.start, item.end)]
        canvas.line(*ends[0], *ends[1])
    elif isinstance(item, Text):
        _write(canvas, page, item, x, y, fonts)
    elif isinstance(item, Picture):
        from reportlab.lib.utils import ImageReader

        large = np.kron(item.on_paper(), np.ones((BLOCK, BLOCK, 1), np.uint8))
        box = _flipped(page, item.left + x, item.top + y, item.width, item.height)
        canvas.drawImage(ImageReader(Image.fromarray(large)), *box)
    # A window stays paper: whoever cuts the card follows its outline.


def _write(canvas: Any, page: Page, item: Text, x: float, y: float, fonts: tuple[str, str]) -> None:
    from reportlab.pdfbase.pdfmetrics import stringWidth

    font = fonts[item.bold]
    wide = stringWidth(item.text, font, item.size / POINT) * POINT
    canvas.setFont(font, item.size / POINT * min(item.room / max(wide, 1e-9), 1))
    canvas.setFillColorRGB(*_share(item.colour))
    draw = {"left": canvas.drawString, "middle": canvas.drawCentredString, "right": canvas.drawRightString}[item.align]
    draw((item.x + x) / POINT, (page.height - item.base - y) / POINT, item.text)


def check_letters(text: str) -> None:
    """Whether a printed text needs no font of its own."""
    try:
        text.encode("cp1252")
    except UnicodeEncodeError as error:
        raise UserError(
            f"a name has the letter {text[error.start]!r}", "Helvetica has Western European letters alone",
            "name a TrueType font that has it: --font NotoSans.ttf",
        ) from None  # fmt: skip


def _fonts(file: Path | None) -> tuple[str, str]:
    """The names of the plain font and the bold one."""
    if file is None:
        return "Helvetica", "Helvetica-Bold"
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFError, TTFont

    try:
        pdfmetrics.registerFont(TTFont(file.name, str(file)))
    except (TTFError, OSError) as error:
        raise UserError(f"{file} is no font", str(error).splitlines()[0], "name a TrueType file, .ttf") from error
    return file.name, file.name


def _flipped(page: Page, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
    """In points, from the page's lower left corner."""
    return left / POINT, (page.height - top - height) / POINT, width / POINT, height / POINT


def _share(colour: Colour) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
