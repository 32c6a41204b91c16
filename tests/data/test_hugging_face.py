"""Hugging Face data sets, saved to the disk; the hub is asked for nothing."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vallum.data import BrokenImageError, load_data
from vallum.errors import UserError
from vallum.images import Task

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r'pip install "vallum\[hf\]"'):
        load_data("hf:cifar10")


@pytest.fixture
def hub() -> Any:
    return pytest.importorskip("datasets")


@pytest.fixture
def files(save: Callable[..., Path]) -> list[str]:
    return [str(save(f"{i}.png", PIXELS[i])) for i in range(3)]


def test_a_classifiers_columns_are_found(hub: Any, files: list[str], tmp_path: Path) -> None:
    kinds = hub.Features({"id": hub.Value("int64"), "fine": hub.ClassLabel(names=["cat", "dog"]), "photo": hub.Image()})
    split = hub.Dataset.from_dict({"id": [7, 8, 9], "fine": [1, 0, 1], "photo": files}, features=kinds)
    hub.DatasetDict({"test": split, "train": split.select([0])}).save_to_disk(tmp_path / "saved")
    data = load_data(f"hf:{tmp_path}/saved")
    assert (data.task, data.classes, len(data)) == (Task.CLASSIFY, ("cat", "dog"), 3)
    batch = data.batch([2, 0])
    assert torch.equal(batch.images, torch.from_numpy(PIXELS[[2, 0]]).permute(0, 3, 1, 2) / 255)
    assert batch.labels.tolist() == [1, 1]
    assert pickle.loads(pickle.dumps(data)).fingerprint([0, 1]) == load_data(data.spec).fingerprint([0, 1])
    assert len(load_data(f"hf:{tmp_path}/saved?split=train")) == 1
    assert load_data(f"hf:{tmp_path}/saved?label=id", classes=10).batch([1]).labels.tolist() == [8]
    for options, message in (("split=val", "it has test, train"), ("label=coarse", "it has id, fine, photo")):
        with pytest.raises(UserError, match=message):
            load_data(f"hf:{tmp_path}/saved?{options}")


def test_a_segmenters_second_picture_is_its_mask(hub: Any, files: list[str], tmp_path: Path) -> None:
    masks = [str(tmp_path / f"m{i}.png") for i in range(3)]
    for i, path in enumerate(masks):
        Image.fromarray(np.full((8, 6), i, np.uint8)).save(path)
    kinds = hub.Features({"image": hub.Image(), "annotation": hub.Image()})
    hub.Dataset.from_dict({"image": files, "annotation": masks}, features=kinds).save_to_disk(tmp_path / "saved")
    data = load_data(f"hf:{tmp_path}/saved?size=4")
    assert (data.task, data.classes) == (Task.SEGMENT, ("0", "1", "2"))
    assert data.batch([2]).labels.unique().tolist() == [2]


def test_a_broken_cell(hub: Any, files: list[str], tmp_path: Path) -> None:
    Path(files[1]).write_bytes(b"no picture")
    kinds = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["cat", "dog"])})
    hub.Dataset.from_dict({"image": files, "label": [0, 1, 0]}, features=kinds).save_to_disk(tmp_path / "saved")
    with pytest.raises(BrokenImageError, match="cannot be decoded"):
        load_data(f"hf:{tmp_path}/saved").read(1)
    assert load_data(f"hf:{tmp_path}/saved?on_error=skip").batch(range(3)).keys.tolist() == [0, 2]


def test_columns_that_do_not_tell(hub: Any, tmp_path: Path) -> None:
    hub.Dataset.from_dict({"text": ["a"], "score": [1.0]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match=r"the columns text, score.*image=NAME&label=NAME"):
        load_data(f"hf:{tmp_path}/saved")
