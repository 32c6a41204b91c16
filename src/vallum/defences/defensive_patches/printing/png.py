"""A card as a PNG: whole dots for each of the patch's pixels, sRGB, its size in the file, clear where it is cut out."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from vallum.defences.defensive_patches.printing.drawing import Box, Drawing, Line, Picture, Rectangle, Text, Window
from vallum.disk import write_whole
from vallum.errors import UserError

LARGEST = 20_000  # dots, each way


def raster(drawing: Drawing, bounds: Rectangle, per_mm: float, font: Path | None = None) -> Image.Image:
    """RGBA. Edges lie on whole dots, counted from the corner (0, 0) of the drawing, so that squares stay equal."""
    left, top, right, bottom = (round(side * per_mm) for side in bounds)
    if max(right - left, bottom - top) > LARGEST:
        raise UserError(
            f"a picture of {right - left} by {bottom - top} dots", f"at most {LARGEST}", "give a lower --dpi"
        )
    picture = Image.new("RGBA", (right - left, bottom - top), (255, 255, 255, 255))
    pen = ImageDraw.Draw(picture)

    def dots(x: float, y: float) -> tuple[int, int]:
        return round(x * per_mm) - left, round(y * per_mm) - top

    for item in drawing:
        if isinstance(item, Box):
            _fill(picture, dots(item.left, item.top), dots(item.left + item.width, item.top + item.height), item.colour)
        elif isinstance(item, Line):
            pen.line([dots(*item.start), dots(*item.end)], item.colour, max(round(item.thick * per_mm), 1))
        elif isinstance(item, Text):
            _write(pen, item, dots(item.x, item.base), per_mm, font)
        elif isinstance(item, Picture):
            _spread(picture, item, dots, item.pixels)
        elif isinstance(item, Window):
            clear = np.zeros((*item.there.shape, 4), np.uint8)
            _spread(picture, item, dots, clear)
    return picture


def write_png(path: Path, picture: Image.Image, per_mm: float) -> Path:
    """As sRGB, with its size."""
    colours = PngImagePlugin.PngInfo()
    colours.add(b"sRGB", b"\0")  # perceptual
    held = io.BytesIO()
    picture.save(held, "PNG", pnginfo=colours, dpi=(per_mm * 25.4, per_mm * 25.4))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda beside: beside.write_bytes(held.getvalue()))
    return path


def _fill(picture: Image.Image, start: tuple[int, int], end: tuple[int, int], colour: tuple[int, ...]) -> None:
    picture.paste((*colour, 255), (*start, *end))


def _spread(
    picture: Image.Image, item: Picture | Window, dots: Callable[[float, float], tuple[int, int]], pixels: np.ndarray
) -> None:
    """Each pixel (h, w, 3 or 4) over the dots that it takes up, where it is there."""
    high, wide = item.there.shape
    columns = np.diff([dots(item.left + item.width * share, 0)[0] for share in np.linspace(0, 1, wide + 1)])
    rows = np.diff([dots(0, item.top + item.height * share)[1] for share in np.linspace(0, 1, high + 1)])
    large, shown = (layer.repeat(rows, 0).repeat(columns, 1) for layer in (pixels, item.there))
    picture.paste(Image.fromarray(large), dots(item.left, item.top), Image.fromarray(shown))


def _write(pen: ImageDraw.ImageDraw, item: Text, at: tuple[int, int], per_mm: float, font: Path | None) -> None:
    size = item.size * per_mm

    def sized(size: float) -> Any:
        return ImageFont.truetype(str(font), size) if font else ImageFont.load_default(size)

    size *= min(item.room * per_mm / max(sized(size).getlength(item.text), 1), 1)
    if size >= 1:
        anchor = {"left": "ls", "middle": "ms", "right": "rs"}[item.align]
        pen.text(at, item.text, item.colour, sized(size), anchor)
