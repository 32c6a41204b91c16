"""Each thing that can be wrong with a file, by the remedy that it is answered with; and going on without it."""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vallum.data import BrokenImageError, load_data, storage
from vallum.errors import UserError

Save = Callable[..., Path]


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 400 million pixels."""
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


WRONG_PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncate, "replace it, delete it, or go on without it"),
    "empty": (lambda path: path.write_bytes(b""), "replace it, delete it, or go on without it"),
    "text": (lambda path: path.write_text("<html>404</html>"), "a whole PNG, JPEG, WebP, BMP, PPM or TIFF file"),
    "another format": (lambda path: Image.new("P", (8, 6)).save(path, "GIF"), "a whole PNG, JPEG"),
    "bomb": (lambda path: path.write_bytes(bomb()), "shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS"),
    "link to nothing": (lambda path: (path.unlink(), path.symlink_to("nowhere.png")), "replace it, or delete it"),
    "link to itself": (link_to_itself, "replace it, or delete it"),
    "pipe": (pipe, "replace it, or delete it"),
}


@pytest.mark.parametrize("trouble", WRONG_PICTURES)
def test_a_wrong_picture_is_named_with_its_remedy_or_left_out(photos: Path, trouble: str) -> None:
    spoil, remedy = WRONG_PICTURES[trouble]
    spoil(photos / "cat" / "a.png")
    with pytest.raises(BrokenImageError, match=re.escape(remedy)) as caught:
        load_data(photos).batch(range(3))
    assert str(photos / "cat" / "a.png") in str(caught.value)

    data = load_data(photos, on_error="skip")
    batch = data.batch(range(3))
    assert (batch.names, batch.keys.tolist()) == (["cat/deep/b.png", "dog/c.png"], [1, 2])
    assert data.skipped == {"cat/a.png": str(caught.value)}
    empty = data.batch([0])
    assert (len(empty), empty.images.shape, empty.labels.shape, empty.keys.shape) == (0, (0, 3, 0, 0), (0,), (0,))
    assert data.fingerprint([0, 1]) != data.fingerprint([1])


WRONG_MASKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "label outside the classes": (
        lambda path: Image.fromarray(np.full((8, 6), 7, np.uint8)).save(path),
        "holds 7 at 48 pixels: there are 3 classes, 0 to 2, and 255 where it is ignored",
    ),
    "other size": (lambda path: Image.new("L", (4, 5)).save(path), "is 8 x 6, its mask 5 x 4"),
    "colours": (lambda path: Image.new("RGB", (6, 8)).save(path), "turn colours into class numbers first"),
    "floats": (lambda path: Image.new("F", (6, 8)).save(path, "TIFF"), "turn colours into class numbers first"),
    "JPEG": (lambda path: Image.new("L", (6, 8)).save(path, "JPEG"), "save masks as PNG"),
    "truncated": (truncate, "replace it, delete it, or go on without it"),
    "missing": (Path.unlink, "add it, or take the picture away"),
    "link to nothing": (lambda path: (path.unlink(), path.symlink_to("nowhere.png")), "replace it, or delete it"),
    "two of them": (lambda path: Image.new("L", (6, 8)).save(path.with_suffix(".bmp")), "delete the wrong one"),
}


@pytest.mark.parametrize("trouble", WRONG_MASKS)
def test_a_wrong_mask_is_named_with_its_remedy_or_its_picture_left_out(pairs: Path, trouble: str) -> None:
    spoil, remedy = WRONG_MASKS[trouble]
    spoil(pairs / "masks" / "a.png")
    with pytest.raises(BrokenImageError, match=re.escape(remedy)) as caught:
        load_data(pairs, classes=3).batch(range(2))
    assert re.search(r"(images|masks)/a\.png", str(caught.value))

    data = load_data(pairs, classes=3, on_error="skip")
    assert data.batch(range(2)).names == ["images/b.png"]
    assert data.skipped == {"images/a.png": str(caught.value)}
    assert data.batch([0]).labels.shape == (0, 0, 0)
    assert len(load_data(pairs, on_error="skip").classes) == (8 if trouble == "label outside the classes" else 3)


def test_several_troubles_are_counted(pairs: Path) -> None:
    for name in "ab":
        (pairs / "masks" / f"{name}.png").unlink()
    (pairs / "masks" / "c.png").write_bytes(png())
    with pytest.raises(BrokenImageError, match=r"images/a\.png has no mask \(and 1 more\): a mask of the same name"):
        load_data(pairs)


def test_an_empty_class_folder(photos: Path) -> None:
    (photos / "bird").mkdir()
    with pytest.raises(BrokenImageError, match=r"bird holds no pictures.*delete it, or name all the classes"):
        load_data(photos)
    data = load_data(photos, on_error="skip")
    assert (data.classes, list(data.skipped)) == (("bird", "cat", "dog"), ["bird"])
    assert load_data(photos, classes=["bird", "cat", "dog"]).batch([0]).labels.tolist() == [1]


def test_a_link_that_leads_back(photos: Path) -> None:
    (photos / "cat" / "deep" / "loop").symlink_to(photos)
    with pytest.raises(BrokenImageError, match=r"cat/deep/loop leads back into itself.*delete that link"):
        load_data(photos)
    data = load_data(photos, on_error="skip")
    assert (len(data), list(data.skipped)) == (3, ["cat/deep/loop"])


def test_a_link_that_leads_elsewhere_is_followed(photos: Path, save: Save) -> None:
    save("elsewhere/d.png")
    (photos / "bird").symlink_to(photos.parent / "elsewhere")
    assert load_data(photos).batch(range(4)).names[0] == "bird/d.png"


def test_trouble_outside_the_asked_pictures_is_none(pairs: Path) -> None:
    (pairs / "other").mkdir()
    (pairs / "other" / "x.png").symlink_to("nowhere")
    assert len(load_data(pairs).batch([0, 1])) == 2


def png() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (6, 8)).save(stream, "PNG")
    return stream.getvalue()


def test_names_that_point_out_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("cat/a.png", png())
        archive.writestr("../../evil/b.png", png())
        archive.writestr("/etc/c.png", png())
    with pytest.raises(BrokenImageError, match=r"points out of the zip.*make the zip again"):
        load_data(tmp_path / "d.zip")
    data = load_data(tmp_path / "d.zip", on_error="skip")
    assert (data.classes, len(data), sorted(data.skipped)) == (("cat",), 1, ["../../evil/b.png", "/etc/c.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["d.zip"]


def test_a_member_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "LARGEST_FILE", 100_000)
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/a.png", bytes(10_000_000))
        archive.writestr("cat/b.png", png())
    with pytest.raises(BrokenImageError, match=r"is 10,000,000 bytes large: at most 100,000"):
        load_data(tmp_path / "d.zip").read(0)
    assert load_data(tmp_path / "d.zip", on_error="skip").batch([0, 1]).names == ["cat/b.png"]


def test_a_damaged_member(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("cat/a.png", png())
        archive.writestr("dog/b.png", png())
    content = bytearray((tmp_path / "d.zip").read_bytes())
    content[content.index(b"IDAT") + 5] ^= 255
    (tmp_path / "d.zip").write_bytes(content)
    with pytest.raises(BrokenImageError, match=r"d\.zip/cat/a\.png cannot be read \(Bad CRC-32"):
        load_data(tmp_path / "d.zip").read(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PK\x03\x04 and no more", "neither a folder nor a zip"), (b"", "neither a folder nor a zip")],
)
def test_a_zip_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "d.zip").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_data(tmp_path / "d.zip")


def test_a_zip_that_vanishes_or_shrinks_while_in_use(photos: Path, zipped: Callable[[Path], Path]) -> None:
    path = zipped(photos)
    data = pickle.loads(pickle.dumps(load_data(path)))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be opened"):
        data.read(0)


def test_a_picture_with_garbage_for_exif_is_still_a_picture(save: Save, tmp_path: Path) -> None:
    save("d/cat/a.jpg", exif=b"Exif\x00\x00garbage, and more of it")
    assert load_data(tmp_path / "d").read(0)[0].shape == (3, 8, 6)
