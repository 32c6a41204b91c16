"""Unlabelled video on disk: folders of frames, KITTI raw, the sequences of Cityscapes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import numpy as np

from vallum.data.clips import CLIP_SOURCES, Clips, whole_number
from vallum.data.data import BrokenImageError
from vallum.data.frames import FrameClips, Pinhole, Run, in_order
from vallum.data.storage import Storage, is_film, open_storage, path_exists, readable
from vallum.errors import UserError
from vallum.specs import Source, read_value

Size = tuple[int, int] | None
STEP = "how many frames lie from one of a clip to the next"


@CLIP_SOURCES.register("folder", step=STEP, focal="focal length in widths, where it is known")
def folder(source: Source, size: Size) -> Clips:
    """Any folder of frames, or folder of such folders, or a zip of either: folder:drives?size=64x192&step=2

    Frames are in the order of their names. `intrinsics.json`, beside the frames or above, has fx, fy, cx, cy in pixels,
    and perhaps the size [W, H] that they hold for; above, it may have such an entry for each folder. Without it give
    the focal length in widths, `focal=0.6`, or let it be learnt. `poses.txt`, a 3x4 matrix a line, is read if there.
    """
    source.refuse_unknown(*CLIP_SOURCES.options["folder"])
    if is_film(source.rest) and path_exists(source.rest):
        raise _film(source.rest, source.rest)
    storage = open_storage(source.rest)
    listing = storage.listing()
    if listing.films and not listing.names:
        raise _film(storage.where(listing.films[0]), listing.films[0])
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in listing.names:
        by_folder[name.rpartition("/")[0]].append(name)
    above = _json(storage, "intrinsics.json")
    runs = []
    for place, names in sorted(by_folder.items()):
        inside = f"{place}/" if place else ""
        own = _json(storage, f"{inside}intrinsics.json") if place else None
        known = own or (above or {}).get(place.rpartition("/")[2]) or above
        runs.append(Run(in_order(names), _pinhole(known, storage), _poses(storage, inside, len(names))))
    return FrameClips(storage, runs, size, whole_number(source, "step", 1), _focal(source))


@CLIP_SOURCES.register("kitti", step=STEP, camera="02 or 03, else both", drive="its number, else all")
def kitti(source: Source, size: Size) -> Clips:
    """KITTI raw as its makers lay it out, rectified colour frames of both cameras: kitti:PATH?size=192x640&camera=02

    <date>/<date>_drive_<number>_sync/image_02/data/*.png, beside <date>/calib_cam_to_cam.txt
    """
    source.refuse_unknown(*CLIP_SOURCES.options["kitti"])
    storage = open_storage(source.rest)
    pattern = re.compile(r"(?:.*/)?(\d{4}_\d\d_\d\d)/\1_drive_(\d+)_sync/image_(\d\d)/data/[^/]+")
    runs: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    wanted = (source.options.get("drive"), source.options.get("camera"))
    for name in storage.listing().names:
        found = pattern.fullmatch(name)
        if found is None:
            continue
        drive, camera = f"{found[1]}_drive_{found[2]}", found[3]
        if wanted[0] in (None, drive, found[2]) and camera in ((wanted[1],) if wanted[1] else ("02", "03")):
            root = name[: name.index(f"{found[1]}/{found[1]}_drive")]
            runs[root + found[1], drive, camera].append(name)
    if not runs:
        raise UserError(
            f"{storage.path} holds no frames of KITTI raw",
            "<date>/<date>_drive_<number>_sync/image_02/data/*.png, as its zips unpack",
            "check the path, camera= and drive=; for other layouts there is folder:",
        )
    made = []
    for (date, _, camera), names in sorted(runs.items()):
        lines = storage.lines(f"{date}/calib_cam_to_cam.txt") or []
        rows = dict(line.split(":", 1) for line in lines if ":" in line)
        made.append(Run(in_order(names), _kitti_camera(rows, camera)))
    return FrameClips(storage, made, size, whole_number(source, "step", 1), None)


@CLIP_SOURCES.register("cityscapes", step=STEP, split="train or val")
def cityscapes(source: Source, size: Size) -> Clips:
    """Cityscapes' sequences, leftImg8bit_sequence/ beside camera/: cityscapes:PATH?split=train&size=128x256"""
    source.refuse_unknown(*CLIP_SOURCES.options["cityscapes"])
    split = source.options.get("split", "train")
    storage = open_storage(source.rest)
    runs: dict[str, list[str]] = defaultdict(list)
    last = ("", -2)
    snippet = ""
    for name in in_order(storage.listing().inside(f"leftImg8bit_sequence/{split}/")):
        stem, _, number = name.removesuffix("_leftImg8bit.png").rpartition("_")
        if not number.isdecimal():
            continue
        if (stem, int(number) - 1) != last:  # snippets of thirty frames follow each other under one name
            snippet = name
        last = (stem, int(number))
        runs[snippet].append(name)
    if not runs:
        raise UserError(
            f"{storage.path}/leftImg8bit_sequence/{split} holds no frames",
            "leftImg8bit_sequence/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png, with split train or val",
            "unpack leftImg8bit_sequence_trainvaltest.zip there",
        )
    made = []
    for names in runs.values():
        files = [name.replace("leftImg8bit_sequence", "camera", 1) for name in names]
        files = [name.replace("_leftImg8bit.png", "_camera.json") for name in files]
        known = next(filter(None, (_json(storage, name) for name in files)), None)  # of one frame of each snippet
        made.append(Run(names, _pinhole((known or {}).get("intrinsic"), storage)))
    return FrameClips(storage, made, size, whole_number(source, "step", 1), None)


def _film(where: str, name: str) -> UserError:
    name = readable(name)
    stem = name.rpartition(".")[0].rpartition("/")[2]
    return UserError(
        f"{readable(where)} is a film, which is not read as it is",
        "a folder of pictures for each drive, in the order of their names",
        f"take it apart: mkdir -p clips/{stem} && ffmpeg -i {name} -vf fps=10 -q:v 2 clips/{stem}/%06d.jpg, "
        "then write folder:clips",
    )


def _json(storage: Storage, name: str) -> dict[str, Any] | None:
    try:
        content = storage.read(name)
    except BrokenImageError:
        return None
    try:
        found = json.loads(content)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise UserError(f"{storage.where(name)} cannot be read", "a JSON object with fx, fy, cx, cy", "mend it")


def _pinhole(numbers: dict[str, Any] | None, storage: Storage) -> Pinhole | None:
    """From fx, fy, cx, cy, as Cityscapes has it u0, v0, and perhaps size; None where there are none of them."""
    if numbers is None or "fx" not in numbers:
        return None
    try:
        fx, fy = float(numbers["fx"]), float(numbers.get("fy", numbers["fx"]))
        cx, cy = (
            float(numbers[one] if one in numbers else numbers[other]) for one, other in (("cx", "u0"), ("cy", "v0"))
        )
        size = tuple(map(float, numbers["size"])) if "size" in numbers else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"intrinsics in {storage.path} lack {error}", "numbers fx, fy, cx, cy", "complete them"
        ) from None
    return Pinhole(fx, fy, cx, cy, (size[0], size[1]) if size else None)


def _kitti_camera(rows: dict[str, str], camera: str) -> Pinhole | None:
    matrix, shape = rows.get(f"P_rect_{camera}"), rows.get(f"S_rect_{camera}")
    if matrix is None or shape is None:
        return None
    numbers, sides = [float(text) for text in matrix.split()], [float(text) for text in shape.split()]
    return Pinhole(numbers[0], numbers[5], numbers[2], numbers[6], (sides[0], sides[1]))


def _poses(storage: Storage, inside: str, frames: int) -> np.ndarray | None:
    lines = storage.lines(f"{inside}poses.txt")
    if lines is None:
        return None
    rows = [[float(text) for text in line.split()] for line in lines]
    if len(rows) != frames or any(len(row) != 12 for row in rows):
        raise UserError(
            f"{storage.where(inside + 'poses.txt')} has {len(rows)} lines",
            f"twelve numbers for each of {frames} frames",
            "mend it, or take it away",
        )
    made = np.tile(np.eye(4), (frames, 1, 1))
    made[:, :3] = np.array(rows).reshape(-1, 3, 4)
    return made


def _focal(source: Source) -> float | None:
    if "focal" not in source.options:
        return None
    focal: float = read_value(source.options["focal"], float, "focal of folder")
    if not 0.1 < focal < 20:
        raise UserError(f"focal={focal:g}", "the focal length in widths of the picture", "write focal=0.6")
    return focal
