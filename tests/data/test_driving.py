"""Cityscapes and CamVid, as small as they come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vallum.data import BrokenImageError, load_data
from vallum.errors import UserError
from vallum.images import Task

Save = Callable[..., Path]
# The label ids of Cityscapes and the training ids that its scripts give them.
LABEL_IDS = np.array(
    [[0, 3, 7, 8, 11, 12], [13, 17, 18, 19, 20, 21], [22, 23, 24, 25, 26, 27], [28, 29, 31, 32, 33, 6]]
)
TRAIN_IDS = np.array(
    [[255, 255, 0, 1, 2, 3], [4, 5, 255, 6, 7, 8], [9, 10, 11, 12, 13, 14], [15, 255, 16, 17, 18, 255]]
)


@pytest.fixture
def cityscapes(save: Save, tmp_path: Path) -> Path:
    for split, frame in (("val", "ulm/ulm_0_0"), ("val", "bonn/bonn_0_0"), ("train", "jena/jena_0_0")):
        save(f"c/leftImg8bit/{split}/{frame}_leftImg8bit.png", np.zeros((4, 6, 3), np.uint8))
        save(f"c/gtFine/{split}/{frame}_gtFine_labelIds.png", LABEL_IDS.astype(np.uint8))
        save(f"c/gtFine/{split}/{frame}_gtFine_color.png", np.zeros((4, 6, 4), np.uint8))
        save(f"c/gtFine/{split}/{frame}_gtFine_instanceIds.png", (LABEL_IDS * 1000).astype(np.uint16))
    return tmp_path / "c"


def test_cityscapes_label_ids_become_training_ids(cityscapes: Path, zipped: Callable[[Path], Path]) -> None:
    for place in (cityscapes, zipped(cityscapes)):
        data = load_data(f"cityscapes:{place}?split=val")
        batch = data.batch([0, 1])
        assert batch.names == [f"leftImg8bit/val/{c}/{c}_0_0_leftImg8bit.png" for c in ("bonn", "ulm")]
        assert (data.task, len(data.classes), data.classes[13]) == (Task.SEGMENT, 19, "car")
        assert torch.equal(batch.labels[0], torch.from_numpy(TRAIN_IDS))


def test_cityscapes_training_ids_are_taken_where_they_are(cityscapes: Path, save: Save) -> None:
    everything = load_data(f"cityscapes:{cityscapes}")
    before = everything.fingerprint([0])
    for city in ("ulm", "bonn"):
        save(f"c/gtFine/val/{city}/{city}_0_0_gtFine_labelTrainIds.png", TRAIN_IDS.astype(np.uint8))
    data = load_data(f"cityscapes:{cityscapes}")
    assert torch.equal(data.read(1)[1], torch.from_numpy(TRAIN_IDS))
    assert data.fingerprint([0]) != before
    (cityscapes / "gtFine" / "val" / "ulm" / "ulm_0_0_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(BrokenImageError, match=r"ulm_0_0_leftImg8bit\.png has no mask"):
        load_data(f"cityscapes:{cityscapes}")


def test_cityscapes_is_not_there(photos: Path) -> None:
    with pytest.raises(UserError, match=r"unpack leftImg8bit_trainvaltest\.zip"):
        load_data(f"cityscapes:{photos}?split=test")
    with pytest.raises(UserError, match="did you mean split"):
        load_data(f"cityscapes:{photos}?spilt=val")


@pytest.mark.parametrize("layout", ["images/{0}/{1}.png masks/{0}/{1}.png", "{0}/{1}.png {0}annot/{1}.png"])
def test_camvid_in_both_layouts(save: Save, tmp_path: Path, layout: str) -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for split, frame in (("test", "0001TP"), ("test", "0002TP"), ("train", "0003TP")):
        picture, target = layout.format(split, frame).split()
        save(f"c/{picture}", np.zeros((3, 4, 3), np.uint8))
        save(f"c/{target}", mask)
    data = load_data(f"camvid:{tmp_path}/c?split=test")
    assert (len(data), len(data.classes), data.classes[0], data.classes[10]) == (2, 11, "sky", "bicyclist")
    assert data.read(1)[1].flatten().tolist() == [*range(11), 255]
    assert len(load_data(f"camvid:{tmp_path}/c?split=train")) == 1
    with pytest.raises(UserError, match=r"no CamVid pictures of the split 'val'.*train, val or test"):
        load_data(f"camvid:{tmp_path}/c?split=val")


def test_camvid_has_no_other_classes(save: Save, tmp_path: Path) -> None:
    save("c/test/a.png", np.zeros((3, 4, 3), np.uint8))
    save("c/testannot/a.png", np.full((3, 4), 31, np.uint8))
    with pytest.raises(BrokenImageError, match="holds 31 at 12 pixels: there are 11 classes"):
        load_data(f"camvid:{tmp_path}/c").read(0)
