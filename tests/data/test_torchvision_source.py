"""torchvision's data sets, through small files in their own formats."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from vallum.data import load_data
from vallum.errors import UserError
from vallum.torchvision_shim import ensure_torchvision

ensure_torchvision()
datasets = pytest.importorskip("torchvision.datasets")
DIGITS = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Four test digits and two training ones in MNIST's format."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, digits, labels in (("t10k", DIGITS, [7, 2, 1, 0]), ("train", DIGITS[:2], [5, 5])):
        images = struct.pack(">IIII", 2051, len(digits), 28, 28) + digits.tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(labels)) + bytes(labels))
    return tmp_path


def test_a_data_set_split_by_train(mnist: Path) -> None:
    data = load_data(f"torchvision:MNIST?root={mnist}")
    batch = data.batch(range(4))
    expected = torch.from_numpy(DIGITS)[:, None].repeat(1, 3, 1, 1) / 255
    assert torch.equal(batch.images, expected)
    assert (batch.labels.tolist(), len(data.classes), data.classes[7]) == ([7, 2, 1, 0], 10, "7 - seven")
    again = load_data(data.spec)
    assert again.fingerprint(range(4)) == data.fingerprint(range(4))
    assert len(load_data(f"torchvision:MNIST?root={mnist}&split=train")) == 2
    assert load_data(f"torchvision:MNIST?root={mnist}&channels=1&size=14").batch([0]).images.shape == (1, 1, 14, 14)


def test_a_data_set_split_by_name(tmp_path: Path) -> None:
    (tmp_path / "fer2013").mkdir()
    rows = "\n".join(f"{label},{' '.join(map(str, [label] * 48 * 48))}" for label in (3, 0))
    (tmp_path / "fer2013" / "train.csv").write_text(f"emotion,pixels\n{rows}\n")
    try:
        data = load_data(f"torchvision:FER2013?root={tmp_path}&split=train")
    except UserError as error:  # newer versions check the file's hash
        assert "is not in" in str(error)  # noqa: PT017
    else:
        assert (data.batch([0, 1]).labels.tolist(), len(data.classes)) == ([3, 0], 7)


def test_options_go_to_the_constructor_as_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Named(datasets.VisionDataset):
        classes = ("cat", "dog")

        def __init__(
            self, root: str, split: str = "train", fold: int = 0, fine: bool = True, download: bool = True
        ) -> None:
            seen.update(root=root, split=split, fold=fold, fine=fine, download=download)
            if split not in ("train", "test"):
                raise ValueError(f"Unknown value '{split}' for argument split.")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
            return np.zeros((4, 4, 3), np.uint8), index

    class Passing(Named):
        def __init__(self, root: str, year: str = "2012", **rest: object) -> None:
            super().__init__(root, **rest)

    class Sets(Named):
        def __init__(self, root: str, image_set: str = "train") -> None:
            seen.update(image_set=image_set)

    monkeypatch.setattr(datasets, "Sets", Sets, raising=False)
    monkeypatch.setattr(datasets, "Named", Named, raising=False)
    monkeypatch.setattr(datasets, "Passing", Passing, raising=False)
    monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, "Named", "Passing", "Sets"))
    assert load_data("torchvision:Named?fold=3&fine=false").classes == ("cat", "dog")
    assert seen == {"root": "data", "split": "test", "fold": 3, "fine": False, "download": False}
    load_data("torchvision:Passing?split=train&year=2007&fold=1&download=true&root=here")
    assert seen == {"root": "here", "split": "train", "fold": 1, "fine": True, "download": True}
    for text, image_set in (("torchvision:Sets", "val"), ("torchvision:Sets?split=trainval", "trainval")):
        load_data(text)
        assert seen["image_set"] == image_set
    for text, message in (
        ("torchvision:Named?split=valid", "Unknown value 'valid'"),
        ("torchvision:Named?fold=x", "a whole number"),
        ("torchvision:Named?flod=2", "did you mean fold"),
        ("torchvision:Named?transform=x", "has no option 'transform'"),
    ):
        with pytest.raises(UserError, match=message):
            load_data(text)


def test_fake_data_is_the_same_in_every_process() -> None:
    data = load_data("torchvision:FakeData?num_classes=3&random_offset=5&size=32&classes=3")
    assert data.batch([0, 1]).images.shape == (2, 3, 32, 32)
    assert torch.equal(load_data(data.spec).batch([4]).images, pickle.loads(pickle.dumps(data)).batch([4]).images)


def test_what_is_not_there(tmp_path: Path) -> None:
    for text, message in (
        (f"torchvision:CIFAR10?root={tmp_path}", r"CIFAR10 is not in .*add &download=true, or say where it lies"),
        (f"torchvision:ImageNet?root={tmp_path}", r"ImageNet is not in .*say where it lies: root=PATH"),
        ("torchvision:CIFAR11", "did you mean CIFAR10"),
        ("torchvision:CIFAR10?split=val", "has no split 'val': train or test"),
        ("torchvision:CIFAR10?rot=x", "did you mean root"),
    ):
        with pytest.raises(UserError, match=message):
            load_data(text)
    assert list(tmp_path.iterdir()) == []


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallum.data.sources.torchvision.ensure_torchvision", lambda: "absent")
    with pytest.raises(UserError, match="pip install torchvision"):
        load_data("torchvision:CIFAR10")
