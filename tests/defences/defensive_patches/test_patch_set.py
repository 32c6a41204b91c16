"""What is saved is what was measured: numbers bit for bit, pictures pixel for pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_laying import RING, images, ringed

from vallum.defences.defensive_patches import PatchSet
from vallum.errors import UserError


def test_a_set_comes_back_bit_for_bit(tmp_path: Path) -> None:
    patches = ringed(fineness=2)
    patches.made = {"maker": "ensemble", "told": {"net": 0.5}}
    again = PatchSet.load(patches.save(tmp_path / "set"))
    assert torch.equal(again.patches, patches.patches)
    assert torch.equal(again.mask, patches.mask)
    for name in ("classes", "image_size", "fineness", "shape", "made", "area", "hole", "fingerprint"):
        assert getattr(again, name) == getattr(patches, name), name
    assert again.area == 224 / 1024
    assert again.hole == (52, 52)


def test_pictures_are_the_patches_and_clear_where_there_is_none(tmp_path: Path) -> None:
    patches = ringed()
    patches.patches = (patches.patches * 255).round() / 255
    patches.classes = ("stop!", "../up", "50 %", "50 /")
    patches.save(tmp_path)
    names = patches.picture_names()
    assert len(set(names)) == 4
    for number, name in enumerate(names):
        pixels = torch.from_numpy(np.array(Image.open(tmp_path / name))).permute(2, 0, 1)
        assert torch.equal(pixels[3] > 0, RING > 0)
        assert torch.equal(pixels[:3].float() / 255, patches.patches[number])
    assert {path.name for path in tmp_path.iterdir()} == {*names, "vallum.json", "patches.safetensors"}


def test_what_was_tampered_with_is_refused(tmp_path: Path) -> None:
    ringed(seed=0).save(tmp_path / "one")
    ringed(seed=1).save(tmp_path / "two")
    (tmp_path / "one/patches.safetensors").write_bytes((tmp_path / "two/patches.safetensors").read_bytes())
    card = tmp_path / "two/vallum.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"kind": "model"}))
    for folder in ("one", "two", "three"):
        with pytest.raises(UserError):
            PatchSet.load(tmp_path / folder)


def test_one_patch_for_all_tells_no_class() -> None:
    one = ringed(1)
    universal = PatchSet(one.patches, one.mask, ("a", "b", "c"), (32, 32))
    assert universal.universal
    assert not one.universal
    same = universal.lay(images(1).expand(3, -1, -1, -1), torch.arange(3))
    assert torch.equal(same[0], same[1])
    assert universal.picture_names() == ["patch-0-all.png"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"patches": torch.rand(3, 3, 30, 30)},
        {"patches": torch.rand(4, 3, 29, 30)},
        {"patches": torch.full((4, 3, 30, 30), 1.5)},
        {"mask": torch.full((30, 30), 0.5)},
        {"mask": torch.zeros(30, 30)},
    ],
)
def test_what_is_no_set_of_patches_is_refused(wrong: dict[str, torch.Tensor]) -> None:
    right = {"patches": torch.rand(4, 3, 30, 30), "mask": RING}
    PatchSet(**right, classes=tuple("abcd"), image_size=(32, 32))
    with pytest.raises(UserError):
        PatchSet(**{**right, **wrong}, classes=tuple("abcd"), image_size=(32, 32))


def test_labels_that_name_no_patch_are_refused() -> None:
    for labels in ([0, 4], [-1, 0], [0]):
        with pytest.raises(UserError):
            ringed().lay(images(2), torch.tensor(labels))
