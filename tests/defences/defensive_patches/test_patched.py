"""Patched images as data: everything that happens to images happens to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from patch_toys import CLASSES, toy_data, toy_model, world
from test_laying import RING

import vallum
from command_line import command
from vallum.data import load_data
from vallum.defences.defensive_patches import Patched, PatchSet
from vallum.errors import UserError
from vallum.images import Draws


def toy_patches(seed: int = 0) -> PatchSet:
    colours = Draws(seed, range(len(CLASSES))).uniform(3, 30, 30, purpose="colours")
    return PatchSet(colours, RING, CLASSES, (32, 32))


def test_each_image_wears_the_patch_of_its_class_and_keeps_its_key() -> None:
    data, patches = toy_data(20), toy_patches()
    patched = Patched(data, patches)
    plain, worn = data.batch([7, 3]), patched.batch([7, 3])
    assert torch.equal(worn.images, patches.lay(plain.images, plain.labels))
    assert worn.keys.tolist() == [7, 3]
    assert torch.equal(patched.read(3)[0], worn.images[1])
    assert len(patched) == 20
    assert patched.fingerprint([1, 2]) != data.fingerprint([1, 2])
    assert patched.fingerprint([1, 2]) != Patched(data, toy_patches(1)).fingerprint([1, 2])


def test_a_string_names_them_and_evaluate_takes_them(tmp_path: Path) -> None:
    toy_patches().save(tmp_path / "set")
    images, labels = world(24)
    np.savez(tmp_path / "toy.npz", images=images.permute(0, 2, 3, 1).numpy(), labels=labels.numpy(), classes=CLASSES)
    data = vallum.load_data(f"patched:{tmp_path / 'set'}?data=npz:{tmp_path / 'toy.npz'}")
    assert torch.equal(vallum.load_data(data.spec).batch([5]).images, data.batch([5]).images)
    model = toy_model()
    run = vallum.evaluate(model, data, ["gaussian:std=0.2"], out=tmp_path / "run", workers=1, progress=False)
    with torch.no_grad():
        batch = data.batch(range(24))
        clean = int((model(batch.images).argmax(1) == batch.labels).sum())
        noisy = vallum.threat("gaussian:std=0.2")(model, batch.images, batch.labels, batch.keys)
        under = int((model(noisy).argmax(1) == batch.labels).sum())
    counted = dict(run.fetch("SELECT threat, sum(correct::INT) FROM rows GROUP BY threat")[1])
    assert counted == {"clean": clean, "gaussian:std=0.2": under}


def test_what_does_not_fit_is_refused() -> None:
    images, labels = world(6)
    for classes in (["x", "y"], list(reversed(CLASSES))):
        data = load_data((images, labels.clamp(max=len(classes) - 1)), classes=classes)
        with pytest.raises(UserError, match="classes"):
            Patched(data, toy_patches())
    with pytest.raises(UserError, match="data="):
        load_data("patched:somewhere")
    with pytest.raises(UserError, match="no patches"):
        load_data("patched:nowhere?data=builtin:signs")


NETS = """
import sys
sys.path.insert(0, {toys!r})
from patch_toys import toy_model
def build():
    return toy_model().network
"""


def test_the_command_makes_what_the_function_makes(tmp_path: Path) -> None:
    images, labels = world(120)
    np.savez(tmp_path / "toy.npz", images=images.permute(0, 2, 3, 1).numpy(), labels=labels.numpy(), classes=CLASSES)
    (tmp_path / "nets.py").write_text(NETS.format(toys=str(Path(__file__).parent)))
    model, data, out = f"{tmp_path}/nets.py:build", f"npz:{tmp_path}/toy.npz", tmp_path / "out"
    settings = ("--shape", "ring:outer=14,inner=10", "--steps", 5, "--batch-size", 12, "--looks", 1, "--start", "noise")
    said = command("patch", "make", "--models", model, model, "--data", data, "--out", out, *settings)
    assert said.code == 0, said.err
    assert f"{len(CLASSES)} patches" in said.out
    assert "patched:" in said.out
    assert "step 5 of 5" in said.err
    expected = vallum.make_patches(
        [model, model], data, shape="ring:outer=14,inner=10", steps=5, batch_size=12, looks=1, start="noise", quiet=True
    )
    assert torch.equal(PatchSet.load(out).patches, expected.patches)
    assert list(PatchSet.load(out).made["told"]) == [model, f"{model} (2)"]
    command("patch", "make", "--out", out).refuses("no model")
    command("patch", "make", model, "--data", data, "--out", out, "--steps", 7).refuses("other patches")
    command("patch", "make", model, "--data", data, "--out", out, "--shape", "star").refuses("star")
