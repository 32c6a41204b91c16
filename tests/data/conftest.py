"""Small data sets on the disk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an array as a picture, by default an 8 x 6 one that its path determines, and return its path."""

    def write(name: str, pixels: np.ndarray | None = None, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            pixels = np.random.default_rng(list(name.encode())).integers(0, 256, (8, 6, 3), np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return path

    return write


@pytest.fixture
def photos(save: Save, tmp_path: Path) -> Path:
    """Two classes, three pictures, one of them deeper."""
    for name in ("photos/cat/a.png", "photos/cat/deep/b.png", "photos/dog/c.png"):
        save(name)
    return tmp_path / "photos"


@pytest.fixture
def pairs(save: Save, tmp_path: Path) -> Path:
    """Two pictures with masks that hold the classes 0 to 2, and 255."""
    for number, name in enumerate("ab"):
        save(f"pairs/images/{name}.png")
        mask = np.zeros((8, 6), np.uint8)
        mask[2:5, 1:3], mask[0, 0] = number + 1, 255
        save(f"pairs/masks/{name}.png", mask)
    return tmp_path / "pairs"


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[[Path], Path]:
    """Zip what lies in a folder."""

    def pack(folder: Path) -> Path:
        target = tmp_path / f"{folder.name}.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        return target

    return pack
