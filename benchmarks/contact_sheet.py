"""A sheet of the nineteen corruptions at five severities, vallum's on the left, the reference's on the right.

    pip install "vallum[benchmarks]"
    python benchmarks/contact_sheet.py sheet.png --image photo.jpg

The reference is corrupt-tta, and imagecorruptions where that one keeps to ImageNet-C and corrupt-tta does not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from vallum.threats import threat
from vallum.threats.corruptions import ALL

sys.path.append(str(Path(__file__).parent.parent / "tests" / "threats"))
from corruption_references import as_bytes, corrupt_tta, imagecorruptions, picture

FROM_IMAGECORRUPTIONS = ("motion_blur", "snow", "fog", "spatter", "glass_blur")
SEVERITIES = range(1, 6)


def photograph(path: str | None) -> torch.Tensor:
    """(3, 224, 224) on the grid of 8 bits: the middle of a file, or a test picture."""
    if path is None:
        return picture()
    with Image.open(path) as file:
        side = min(file.size)
        left, top = (file.width - side) // 2, (file.height - side) // 2
        square = file.convert("RGB").resize((224, 224), Image.Resampling.LANCZOS, (left, top, left + side, top + side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="the sheet, a PNG or JPEG file")
    parser.add_argument("--image", help="a photograph; a test picture without it")
    parser.add_argument("--side", type=int, default=112, help="of one picture on the sheet; corrupted at 224")
    parser.add_argument("--only", nargs="*", default=ALL, help="names of corruptions")
    arguments = parser.parse_args()
    image, side, margin = photograph(arguments.image), arguments.side, 120
    sheet = Image.new("RGB", (margin + 10 * side + 20, 20 + len(arguments.only) * side), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((margin, 4), "vallum, severities 1 to 5", "black")
    pen.text((margin + 5 * side + 20, 4), "the reference", "black")
    np.random.seed(0)
    for row, name in enumerate(arguments.only):
        package = imagecorruptions() if name in FROM_IMAGECORRUPTIONS else corrupt_tta()
        top = 20 + row * side
        pen.text((4, top + side // 2), name, "black")
        for severity in SEVERITIES:
            ours = as_bytes(threat(f"{name}:{severity}")(None, image[None], torch.zeros(1), [severity])[0])
            given = Image.fromarray(as_bytes(image)) if name == "spatter" else as_bytes(image)
            theirs = np.uint8(np.clip(np.asarray(getattr(package, name)(given, severity)), 0, 255))
            for array, left in ((ours, margin), (theirs, margin + 5 * side + 20)):
                small = Image.fromarray(array).resize((side, side), Image.Resampling.BOX)
                sheet.paste(small, (left + (severity - 1) * side, top))
    sheet.save(arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
