"""What images wear: only what is said changes, each image alone, and nobody wears his own by mistake."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from patch_toys import CLASSES, SIZE, toy_data

from vallum.defences.defensive_patches import PatchSet, Ring
from vallum.defences.defensive_patches.wearing import (
    Alone,
    Askew,
    Beside,
    EachPatch,
    Grey,
    Noise,
    Nothing,
    Own,
    Peeled,
    Permuted,
    Wear,
    Wearing,
    Wrong,
)

MASK = Ring(outer=14, inner=10).mask(SIZE, SIZE)
PATCHES = PatchSet(
    torch.rand(len(CLASSES), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)), MASK, CLASSES, (SIZE, SIZE)
)
WEARS: tuple[Wear, ...] = (
    Nothing(PATCHES), Own(PATCHES), Grey(PATCHES), Noise(PATCHES), Alone(PATCHES), Wrong(PATCHES), Permuted(PATCHES),
    Beside(PATCHES), Peeled(PATCHES), Peeled(PATCHES, 0.5), Askew(PATCHES), Askew(PATCHES, "rotation", 20.0),
    Askew(PATCHES, "scale", 0.8),
)  # fmt: skip


@pytest.mark.parametrize("wear", WEARS, ids=lambda one: one.mark.partition(" ")[0])
def test_each_image_stands_alone(wear: Wear) -> None:
    data = Wearing(toy_data(20), wear, "worn")
    whole = data.batch(range(20))
    for split in ([3], [19, 0, 7], list(range(5, 12))):
        part = data.batch(split)
        assert bool((part.images == whole.images[split]).all())
        assert part.keys.tolist() == split
    assert 0 <= float(whole.images.min()) <= float(whole.images.max()) <= 1


@pytest.mark.parametrize("wear", WEARS, ids=lambda one: one.mark.partition(" ")[0])
def test_what_another_seed_or_set_would_show_has_another_name(wear: Wear) -> None:
    other = PatchSet(1 - PATCHES.patches, MASK, CLASSES, (SIZE, SIZE))
    assert type(wear)(other).mark != type(wear)(PATCHES).mark
    assert len({one.mark for one in WEARS}) == len(WEARS)


@pytest.mark.parametrize("kind", [Own, Grey, Noise, Wrong, Permuted, Peeled])
def test_nothing_changes_but_beneath_the_mask(kind: type[Wear]) -> None:
    batch = toy_data(30).batch(range(30))
    shown = kind(PATCHES).show(batch.images, batch.labels, batch.keys)
    changed = (shown != batch.images).any(1)
    assert not bool(changed[:, MASK == 0].any())
    assert bool(changed.any())


@pytest.mark.parametrize("kind", [Wrong, Permuted])
def test_nobody_wears_his_own_and_all_others_occur(kind: type[Wear]) -> None:
    labels = torch.arange(len(CLASSES)).repeat(200)
    worn = kind(PATCHES).worn(labels, range(len(labels)))
    assert not bool((worn == labels).any())
    pairs = set(zip(labels.tolist(), worn.tolist(), strict=True))
    assert len(pairs) == (len(CLASSES) * (len(CLASSES) - 1) if kind is Wrong else len(CLASSES))
    assert sorted({two for _, two in pairs}) == list(range(len(CLASSES)))


def test_a_share_of_the_ring_is_gone() -> None:
    images, labels = torch.zeros(60, 3, SIZE, SIZE), torch.zeros(60, dtype=torch.int64)
    for share in (0.25, 0.5):
        shown = Peeled(PATCHES, share).show(images, labels, range(60))
        left = (shown != 0).any(1)[:, MASK > 0].double().mean()
        assert abs(float(left) - (1 - share)) < 0.03


@pytest.mark.parametrize(("by", "amount"), [("shift", 0.0), ("rotation", 0.0), ("scale", 1.0)])
def test_askew_by_nothing_is_where_it_should_be(by: str, amount: float) -> None:
    batch = toy_data(6).batch(range(6))
    straight = Own(PATCHES).show(batch.images, batch.labels, batch.keys)
    assert torch.allclose(Askew(PATCHES, by, amount).show(batch.images, batch.labels, batch.keys), straight, atol=1e-5)  # type: ignore[arg-type]


def test_the_patch_alone_shows_no_object() -> None:
    """Images of the same mean colour are shown as the same."""
    batch = toy_data(20).batch(range(20))
    mirrored = batch.images.flip(3)
    wear = Alone(PATCHES)
    one, other = (wear.show(images, batch.labels, batch.keys) for images in (batch.images, mirrored))
    assert torch.allclose(one, other, atol=1e-6)


def test_a_second_patch_lies_in_the_hole_and_the_first_stays() -> None:
    batch = toy_data(12).batch(range(12))
    own, both = (one.show(batch.images, batch.labels, batch.keys) for one in (Own(PATCHES), Beside(PATCHES)))
    assert bool((own == both)[:, :, MASK > 0].all())
    assert bool((own != both).flatten(1).any(1).all())


def test_each_patch_on_each_image() -> None:
    data, indices = toy_data(30), [4, 9, 21]
    each = EachPatch(data, PATCHES, indices)
    assert len(each) == 3 * len(CLASSES)
    order = np.random.default_rng(0).permutation(len(each)).tolist()
    batch = each.batch(order)
    for row, key in enumerate(order):
        place, patch = divmod(key, len(CLASSES))
        image = data.batch([indices[place]])
        assert bool((batch.images[row] == PATCHES.lay(image.images, torch.tensor([patch]))[0]).all())
        assert batch.labels[row] == image.labels[0]
    assert batch.keys.tolist() == order
    assert len({each.identity(key) for key in range(len(each))}) == len(each)
