"""Arrays on the disk: mapped rather than read, and the same however they are stored."""

from __future__ import annotations

import pickle
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vallum.data import load_data
from vallum.data.stored import StoredArray
from vallum.errors import UserError
from vallum.images import Task

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
LABELS = np.array([0, 2, 1, 1, 0])
MASKS = np.random.default_rng(1).choice([0, 1, 3, 255], (5, 8, 6)).astype(np.uint8)
FIRST = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.transpose(0, 3, 1, 2),
        np.asfortranarray(IMAGES),
        (IMAGES / 255).astype(np.float32),
        IMAGES.astype(np.uint16) * 257,
    ],
    ids=["last", "first", "fortran", "floats", "16 bits"],
)
def test_every_way_to_store_the_same_images(tmp_path: Path, save: Callable, images: np.ndarray) -> None:
    save(tmp_path / "d.npz", images=images, labels=LABELS)
    data = load_data(tmp_path / "d.npz")
    batch = data.batch(range(5))
    assert torch.allclose(batch.images, FIRST, atol=1e-7)
    assert (batch.labels.tolist(), data.classes, data.task) == (LABELS.tolist(), ("0", "1", "2"), Task.CLASSIFY)
    again = load_data(data.spec)
    assert torch.equal(again.batch([3]).images, batch.images[3:4])
    assert again.fingerprint(range(5)) == data.fingerprint(range(5))


def test_masks_and_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES, masks=MASKS, classes=np.array(["sky", "road", "car", "tree"]))
    data = load_data(tmp_path / "d.npz", size=4)
    assert (data.task, data.classes) == (Task.SEGMENT, ("sky", "road", "car", "tree"))
    assert data.batch([1]).labels.shape == (1, 4, 4)
    np.savez(tmp_path / "e.npz", images=IMAGES, labels=LABELS, masks=MASKS)
    assert load_data(tmp_path / "e.npz").task == Task.CLASSIFY
    assert load_data(tmp_path / "e.npz?task=segment").classes == ("0", "1", "2", "3")


def test_grey_arrays_keep_their_one_channel_unless_told(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=IMAGES[..., 0], labels=LABELS[:, None])
    assert load_data(tmp_path / "d.npz").batch([0]).images.shape == (1, 1, 8, 6)
    assert load_data(f"npz:{tmp_path}/d.npz?channels=3").batch([0]).images.shape == (1, 3, 8, 6)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_mapped_and_leave_nothing_behind(
    tmp_path: Path, save: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    images = np.zeros((200, 64, 64, 3), np.uint8)  # 2.4 MB
    save(tmp_path / "d.npz", images=images, labels=np.arange(200) % 2)
    tracemalloc.start()
    data = load_data(tmp_path / "d.npz")
    assert data.batch([7]).images.shape == (1, 3, 64, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.nbytes / 2
    assert isinstance(data.images.array, np.memmap)
    assert list((tmp_path / "temporary").iterdir()) == []
    assert len(pickle.dumps(data)) < 4000
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch([3]).images, data.batch([3]).images)


def test_a_copy_that_does_not_fit_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "d.npz", images=IMAGES, labels=LABELS)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(UserError, match=r"numpy\.savez instead of savez_compressed"):
        load_data(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES, "labels": LABELS}, r"has no images.*numpy\.savez\(FILE, images"),
        ({"images": IMAGES}, "has no labels"),
        ({"images": IMAGES, "labels": LABELS[:4]}, r"labels of .* have shape \(4,\).*give each image one label"),
        ({"images": IMAGES, "masks": MASKS[:4]}, "5 images and 4 masks"),
        ({"images": IMAGES, "labels": LABELS / 2}, "one whole number, the class"),
        ({"images": IMAGES.astype(np.float64), "labels": LABELS}, "divide them by 255"),
        ({"images": IMAGES.astype(np.int64), "labels": LABELS}, "images / 255"),
        ({"images": IMAGES[0, 0], "labels": LABELS[:0]}, r"\(N, H, W, C\) or \(N, C, H, W\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"npz holds no image: at least one"),
        ({"images": IMAGES, "labels": np.array([{}] * 5)}, "holds Python objects"),
        ({"images": IMAGES, "labels": LABELS - 1}, "label -1: there are 2 classes"),
        ({"images": IMAGES, "masks": MASKS[:, :4]}, "is 8 x 6, its mask 4 x 6"),
    ],
)
def test_wrong_arrays(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(UserError, match=message):
        load_data(tmp_path / "d.npz")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match="save it again"):
        load_data(path)
    np.savez(path, images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="save it again"):
        load_data(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|u1'}")
        archive.writestr("labels.npy", b"")
    with pytest.raises(UserError, match="save it again"):
        load_data(path)


def test_an_array_that_says_it_is_larger_than_its_member(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    content = (tmp_path / "images.npy").read_bytes()
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("images.npy", content.replace(b"(5, 8, 6, 3)", b"(9, 8, 6, 3)"))
        archive.writestr("labels.npy", bytes(10_000))
    with pytest.raises(UserError, match="cut short"):
        StoredArray(tmp_path / "d.npz", "images").array  # noqa: B018
