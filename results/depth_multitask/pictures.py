"""What networks of one seed say of clean and of attacked streets: pictures.py FOLDER SEED writes predictions.jpg."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import vallum

SHOWN = (3, 11, 26, 40, 57)
ATTACK = "pgd:eps=4/255,steps=20"
NOISE = "equal_energy:of=(gaussian),snr=10"
# road, pavement, building, fence, pole, sign, vegetation, terrain, sky, person, car
COLOURS = np.array(
    [
        *((128, 64, 128), (244, 35, 232), (90, 90, 90), (190, 153, 153), (200, 200, 200), (220, 220, 0)),
        *((107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (0, 0, 142)),
    ],
    np.uint8,
)


def main() -> None:
    torch.set_num_threads(1)
    folder, seed = Path(sys.argv[1]), sys.argv[2]
    batch = vallum.load_data(f"npz:{folder}/data/test.npz", task="segment").batch(SHOWN)
    depth = vallum.load_depth(str(folder / "models" / f"multi-{seed}"))
    noisy = vallum.threat(NOISE)(None, batch.images, batch.labels, batch.keys)
    columns = {"image": _pixels(batch.images), "labels": COLOURS[batch.labels]}
    for name in ("single", "multi"):
        model = vallum.load_model(str(folder / "models" / f"{name}-{seed}"))
        attacked = vallum.threat(ATTACK)(model, batch.images, batch.labels, batch.keys)
        for what, images in (("clean", batch.images), ("noise, 10 dB", noisy), ("PGD, 4/255", attacked)):
            with torch.no_grad():
                columns[f"{name}-task, {what}"] = COLOURS[model(images).argmax(1)]
    with torch.no_grad():
        near = 1 / depth(batch.images)
    near = (near / near.flatten(1).quantile(0.95, 1)[:, None, None]).clamp(0, 1)
    columns["multi-task, nearness"] = _pixels(near[:, None].expand(-1, 3, -1, -1))
    high, wide, gap = 64, 192, 4
    sheet = Image.new("RGB", ((wide + gap) * 3 - gap, len(SHOWN) * 3 * (high + gap) + 12 * 3), "white")
    pen = ImageDraw.Draw(sheet)
    for number, name in enumerate(columns):
        down, across = divmod(number, 3)
        for row in range(len(SHOWN)):
            top = (down * len(SHOWN) + row) * (high + gap) + 12 * (down + 1)
            sheet.paste(Image.fromarray(columns[name][row]), (across * (wide + gap), top))
        pen.text((across * (wide + gap), down * (len(SHOWN) * (high + gap) + 12)), name, fill="black")
    sheet.save(Path(__file__).parent / "predictions.jpg", quality=88)


def _pixels(images: torch.Tensor) -> np.ndarray:
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy()


if __name__ == "__main__":
    main()
