"""Photographs in files: read as sRGB and upright, and what was cut out of them in folders that `folder:` reads."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vallum.data.decoding import EXTENSIONS, open_picture
from vallum.defences.defensive_patches.printing.rectify import find_cards
from vallum.defences.defensive_patches.printing.sheet import Sheet
from vallum.disk import write_whole
from vallum.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Crop:
    """What was cut out of a photo."""

    photo: Path
    file: Path
    name: str  # the patch's class
    markers: int
    error: float  # in pixels of the photo
    error_mm: float
    bent: bool


@dataclass
class Rectified:
    crops: list[Crop] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)  # why nothing, or not all, could be taken from a photo


def read_photo(path: Path) -> Tensor:
    """(3, H, W) float in [0, 1]: upright as its EXIF says, in sRGB whatever colours its camera wrote."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read", error.strerror or str(error)) from error
    picture = open_picture(content, str(path))
    profile = picture.info.get("icc_profile")
    picture = picture.convert("RGB")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # a broken profile leaves the colours as they are
            srgb: Any = ImageCms.createProfile("sRGB")
            picture = ImageCms.profileToProfile(picture, io.BytesIO(profile), srgb) or picture
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def photos_in(paths: Sequence[Path]) -> list[Path]:
    """The photos themselves, and those in folders, by name."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path} holds no photos", f"files that end in {', '.join(EXTENSIONS)}")
        found += inside
    return list(dict.fromkeys(found))


def rectify_photos(
    photos: Sequence[Path],
    sheet: Sheet,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    shows: str | None = None,
    progress: bool = False,
) -> Rectified:
    """Cut each card out of each photo, into OUT/CLASS, where CLASS is what the patch says, or what `shows` says.

    `shows`: the class of the object in all of these photos, where it is not that of the patch around it.
    """
    if shows is not None and shows not in sheet.classes:
        raise UserError(f"no class {shows!r}", did_you_mean(shows, sheet.classes))
    if sheet.universal and shows is None:
        raise UserError(
            "this patch is the same for all classes", "it does not say what the object is",
            "say it: --shows CLASS, for the photos of each class",
        )  # fmt: skip
    out = Path(out).expanduser()
    folders = folder_names(sheet.classes)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "classes.txt", lambda path: path.write_text("\n".join(folders) + "\n", encoding="utf-8"))
    done = Rectified()
    console = Console(stderr=True)
    shown = track(photos, "straighten", console=console, disable=not (progress and console.is_terminal))
    for photo in shown:
        try:
            image = read_photo(photo)
            found, why = find_cards(image, sheet)
        except UserError as error:
            done.failed[photo] = str(error)
            continue
        if why:
            done.failed[photo] = "; ".join(why)
        for card in found:
            own = sheet.cards[card.card]
            label = sheet.classes.index(shows) if shows is not None else own
            # Named by what is in the photo too: two may be called the same, and one may be given twice.
            told = hashlib.blake2b(image.numpy().tobytes(), digest_size=3).hexdigest()
            file = out / folders[label] / f"{photo.stem}-{told}-{card.card}.png"
            pixels = (card.crop(image, sheet, size) * 255).round().byte().permute(1, 2, 0).numpy()
            file.parent.mkdir(exist_ok=True)
            held = io.BytesIO()
            Image.fromarray(pixels).save(held, "PNG")
            write_whole(file, lambda path, held=held: path.write_bytes(held.getvalue()))  # type: ignore[misc]
            bent = card.bent(sheet)
            done.crops.append(Crop(photo, file, sheet.classes[own], card.markers, card.error, card.error_mm, bent))
    return done


def folder_names(classes: Sequence[str]) -> list[str]:
    """A folder for each class: its name, with a dash for what a folder must not be called, and no two alike.

    >>> folder_names(["stop", "30/50", "30-50", ".."])
    ['stop', '30-50', '30-50-2', '3']
    """
    names: list[str] = []
    for number, name in enumerate(classes):
        safe = "".join("-" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name).strip(" .")[:80]
        safe = safe or str(number)
        safe = safe if safe not in names else f"{safe}-{number}"
        while safe in names:
            safe += "-"
        names.append(safe)
    return names
