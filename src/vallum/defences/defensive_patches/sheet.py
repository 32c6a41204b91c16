"""All patches of a set side by side, for people."""

from __future__ import annotations

import math

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vallum.defences.defensive_patches.patch_set import PatchSet

CELL = 96  # pixels of a patch on the sheet, about
CAPTION = 14


def contact_sheet(patches: PatchSet, images: Tensor | None = None) -> Image.Image:
    """A grid of the patches with their classes; `images`, one for each class, shows them around an object.

    >>> patches = PatchSet(torch.rand(3, 3, 8, 8), torch.ones(8, 8), ("a", "b", "c"), image_size=(8, 8))
    >>> contact_sheet(patches).size
    (304, 118)
    """
    names = ["all"] if patches.universal else list(patches.classes)
    height, width = patches.image_size if images is None else images.shape[2:]
    if images is None:
        height, width = (max(size * patches.fineness, 1) for size in (height, width))
        images = torch.full((len(names), 3, height, width), 0.9)
    shown = patches.lay(images[: len(names)].cpu().float(), torch.arange(len(names)))
    enlarged = max(CELL // max(height, width), 1)
    columns = min(math.ceil(math.sqrt(len(names) * 1.6)), len(names))
    wide, high = max(width * enlarged, CELL) + 4, height * enlarged + CAPTION + 4
    sheet = Image.new(
        "RGB", (columns * wide + (4 if columns > 1 else 0), math.ceil(len(names) / columns) * high + 4), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for number, (name, one) in enumerate(zip(names, shown, strict=True)):
        left, top = 4 + number % columns * wide, 4 + number // columns * high
        pixels = (one * 255).round().byte().permute(1, 2, 0).numpy()
        picture = Image.fromarray(pixels).resize((width * enlarged, height * enlarged), Image.Resampling.NEAREST)
        sheet.paste(picture, (left, top))
        pen.text((left, top + height * enlarged), _fitted(name, font, wide - 4), "black", font)
    return sheet


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text
