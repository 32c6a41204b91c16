"""Patches that print a label, and the machines that read them: no more area than others, and read back whole."""

from __future__ import annotations

import pytest
import torch

from vallum.defences.defensive_patches import PatchSet, Ring, Square
from vallum.defences.defensive_patches.codes import barcode, marker, words
from vallum.defences.defensive_patches.readers import MarkerReader, MatchedFilter
from vallum.errors import UserError

NAMES = tuple(f"class {number}" for number in range(43))


def ring(size: int = 32, fineness: int = 1) -> PatchSet:
    mask = Ring().mask(size, size).repeat_interleave(fineness, 0).repeat_interleave(fineness, 1)
    colours = torch.rand(43, 3, *mask.shape, generator=torch.Generator().manual_seed(0))
    return PatchSet(colours, mask, NAMES, (size, size), fineness)


def objects(size: int) -> torch.Tensor:
    return torch.rand(43, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_words_are_farther_apart_than_chance_makes_them() -> None:
    def nearest(bits: torch.Tensor) -> int:
        apart = (bits[:, None] != bits[None]).sum(-1) + 1000 * torch.eye(len(bits), dtype=torch.int64)
        return int(apart.min())

    chance = torch.randint(0, 2, (20, 43, 56), generator=torch.Generator().manual_seed(0))
    assert nearest(words(43, 56, seed=0)) > max(nearest(one) for one in chance)
    with pytest.raises(UserError, match="cannot tell 43 classes apart"):
        words(43, 5, seed=0)


@pytest.mark.parametrize("fineness", [1, 3])
def test_a_barcode_covers_what_the_patches_cover_and_is_read_in_any_light(fineness: int) -> None:
    own = ring(fineness=fineness)
    bars = barcode(own)
    assert bool((bars.mask == own.mask).all())
    labels, reader = torch.arange(43), MatchedFilter(bars)
    for light, contrast in ((0.0, 1.0), (0.4, 0.2), (-0.1, 0.5)):
        seen = (bars.lay(objects(32), labels) - 0.5) * contrast + 0.5 + light
        assert reader(seen.clamp(0, 1)).argmax(1).tolist() == labels.tolist()


def test_a_reader_sees_no_object() -> None:
    own, labels = ring(), torch.arange(43)
    reader = MatchedFilter(own)
    one, other = (reader(own.lay(image, labels)) for image in (objects(32), 1 - objects(32)))
    assert torch.equal(one, other)
    assert reader(own.lay(objects(32), labels.roll(1))).argmax(1).tolist() == labels.roll(1).tolist()
    with pytest.raises(UserError, match="one patch for all"):
        MatchedFilter(PatchSet(own.patches[:1], own.mask, NAMES, (32, 32)))


@pytest.mark.parametrize(("kind", "size"), [("aruco", 32), ("aruco", 96), ("qr", 128)])
def test_markers_have_no_more_area_and_are_read(kind: str, size: int) -> None:
    pytest.importorskip("cv2")
    own = ring(size)
    marks, labels = marker(own, kind), torch.arange(43)
    assert 0.5 * own.area < marks.area <= own.area
    read = MarkerReader(marks, kind).read(marks.lay(torch.full((43, 3, size, size), 0.6), labels))
    assert sum(one == label for one, label in zip(read, labels.tolist(), strict=True)) >= 42
    assert not [one for one, label in zip(read, labels.tolist(), strict=True) if one not in (None, label)]


def test_where_nothing_is_read_it_guesses_and_says_so() -> None:
    pytest.importorskip("cv2")
    reader = MarkerReader(marker(ring()))
    assert reader.read(objects(32)) == [None] * 43
    guesses = reader(objects(32)).argmax(1)
    assert len(guesses.unique()) > 15  # all over the classes, and the same each time
    assert torch.equal(guesses, reader(objects(32)).argmax(1))
    assert not reader.differentiable


def test_a_marker_that_does_not_fit_is_refused() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(UserError, match=r"a qr marker of 21 cells on 14 x 14 pixels.*take aruco"):
        marker(ring(), "qr")
    small = PatchSet(torch.rand(43, 3, 5, 5), Square(5).mask(5, 5), NAMES, (32, 32))
    with pytest.raises(UserError, match=r"an? aruco marker of 6 cells on 5 x 5"):
        marker(small)
