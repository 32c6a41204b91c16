"""Augmentation: each image alone, and exactly the shift, the mirror and the colours that were drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from training_toys import Dots

from vallum.images import Task
from vallum.training import Settings
from vallum.training.augment import _recoloured, _shifted, augment


def settings(**changes: Any) -> Settings:
    return Settings(**{"shift": 0.25, "flip": True, "colour": 0.2, **changes})


@examples(max_examples=30)
@given(st.permutations(range(12)), st.integers(1, 12), st.sampled_from(Task))
def test_an_image_gets_the_same_in_any_company(order: list[int], count: int, task: Task) -> None:
    data = Dots(task=task)
    whole = augment(data.batch(range(12)), settings(), 3)
    part = augment(data.batch(order[:count]), settings(), 3)
    assert torch.equal(part.images, whole.images[order[:count]])
    assert torch.equal(part.labels, whole.labels[order[:count]])


def test_each_epoch_and_each_seed_draws_anew() -> None:
    batch = Dots().batch(range(12))
    seen = [augment(batch, settings(seed=seed), epoch).images for seed in (0, 1) for epoch in (0, 1)]
    assert all(not torch.equal(one, other) for i, one in enumerate(seen) for other in seen[:i])


def test_nothing_asked_for_changes_nothing() -> None:
    batch = Dots().batch(range(4))
    assert augment(batch, settings(shift=0, flip=False, colour=0), 0) is batch


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (-3, 1), (0, 4), (8, -8)])
def test_shift_is_a_crop_of_the_padded_image(down: int, right: int) -> None:
    batch = Dots(task=Task.SEGMENT).batch(range(3))
    shares = torch.tensor([[down / 8, right / 8]]).expand(3, 2)
    images, labels = _shifted(batch.images, batch.labels, shares)
    rows, columns = slice(8 + down, 16 + down), slice(8 + right, 16 + right)
    assert torch.equal(images, F.pad(batch.images, (8, 8, 8, 8), mode="replicate")[:, :, rows, columns])
    assert torch.equal(labels, F.pad(batch.labels, (8, 8, 8, 8), value=255)[:, rows, columns])


def test_mirror_turns_about_half_of_images_and_labels_together() -> None:
    batch = Dots(n=400, task=Task.SEGMENT).batch(range(400))
    batch.labels = batch.images[:, 0].mul(1000).long()  # as good as a name for each pixel
    done = augment(batch, settings(shift=0, colour=0), 0)
    mirrored = (done.images == batch.images.flip(-1)).flatten(1).all(1)
    assert torch.equal(done.images[~mirrored], batch.images[~mirrored])
    assert torch.equal(done.labels, torch.where(mirrored[:, None, None], batch.labels.flip(-1), batch.labels))
    assert 150 < int(mirrored.sum()) < 250


def test_colours_by_their_definition() -> None:
    images = torch.rand(5, 3, 4, 4, dtype=torch.float64) * 0.4 + 0.3  # so that nothing is clipped
    factors = torch.tensor([1.1, 0.9, 0.7], dtype=torch.float64).expand(5, 3)
    done = _recoloured(images.clone(), factors)
    luma = torch.einsum("nchw,c->nhw", done, torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))
    plain = (images * 1.1 - 0.5) * 0.9 + 0.5
    expected = torch.einsum("nchw,c->nhw", plain, torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64))
    torch.testing.assert_close(luma, expected)  # saturation keeps brightness
    torch.testing.assert_close(done - luma[:, None], 0.7 * (plain - expected[:, None]))


@examples(max_examples=30)
@given(st.integers(0, 50))
def test_images_stay_in_the_box(epoch: int) -> None:
    done = augment(Dots().batch(range(8)), settings(colour=0.9), epoch).images
    assert 0 <= float(done.min()) <= float(done.max()) <= 1


def test_grey_images_pass() -> None:
    batch = Dots().batch(range(4))
    batch.images = batch.images[:, :1]
    assert augment(batch, settings(), 0).images.shape == (4, 1, 8, 8)
