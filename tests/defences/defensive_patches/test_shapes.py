"""Areas to the pixel, whatever the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vallum.defences.defensive_patches.making import around_the_middle, fine
from vallum.defences.defensive_patches.shapes import SHAPES, Corners, MaskFile, Ring, Square, shape
from vallum.errors import UserError


def test_the_published_ring() -> None:
    """Pixels 1..30 without 3..28 of 32, by slicing, as the dossier of its geometry has it."""
    expected = torch.zeros(32, 32)
    expected[1:31, 1:31] = 1
    expected[3:29, 3:29] = 0
    assert torch.equal(shape("ring:outer=30,inner=26").mask(32, 32), expected)
    assert torch.equal(shape("ring").mask(32, 32), expected)
    assert int(expected.sum()) == 224


@given(st.integers(8, 70), st.integers(8, 70), st.data())
def test_a_ring_is_its_frame_less_its_hole_in_the_middle(height: int, width: int, data: st.DataObject) -> None:
    outer = data.draw(st.integers(4, min(height, width)))
    inner = data.draw(st.integers(2, outer - 2))
    mask = Ring(outer=outer, inner=inner).mask(height, width)
    hole = inner - (outer - inner) % 2
    assert int(mask.sum()) == outer**2 - hole**2
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    for found, size in ((rows, height), (columns, width)):
        assert len(found) == outer
        assert abs(int(found[0]) - (size - 1 - int(found[-1]))) <= 1
    above = int(rows[0])
    assert int((mask[above + outer // 2] == 0)[columns[0] : columns[-1] + 1].sum()) == hole


@given(st.integers(9, 40), st.integers(9, 40), st.integers(2, 9))
def test_squares_and_corners_have_the_area_of_their_sides(height: int, width: int, side: int) -> None:
    assert int(Square(side=side).mask(height, width).sum()) == side**2
    if 2 * side <= min(height, width):
        mask = Corners(side=side, inset=0).mask(height, width)
        assert int(mask.sum()) == 4 * side**2
        assert torch.equal(mask, mask.flip(0))
        assert torch.equal(mask, mask.flip(1))


def test_any_picture_is_a_mask(tmp_path: Path) -> None:
    drawn = np.zeros((20, 30), np.uint8)
    drawn[2:5, 3:9] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    assert torch.equal(MaskFile(str(tmp_path / "mask.png")).mask(20, 30), torch.from_numpy(drawn > 0).float())
    Image.new("L", (4, 4)).save(tmp_path / "black.png")
    for file in ("black.png", "none.png"):
        with pytest.raises(UserError):
            MaskFile(str(tmp_path / file)).mask(8, 8)


@pytest.mark.parametrize(
    "spec", ["ring:outer=30,inner=30", "ring:outer=60", "square:0", "corners:side=20", "ring:inner=0.001"]
)
def test_what_is_no_shape_is_refused(spec: str) -> None:
    with pytest.raises(UserError):
        shape(spec).mask(32, 32)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "mask"])
def test_a_mask_is_cut_evenly_and_made_finer_without_a_change(name: str) -> None:
    mask = shape(name).mask(32, 48)
    cut = around_the_middle(mask)
    above, left = ((whole - own) // 2 for whole, own in zip(mask.shape, cut.shape, strict=True))
    assert torch.equal(mask[above : above + cut.shape[0], left : left + cut.shape[1]], cut)
    assert cut.sum() == mask.sum()
    fined = fine(cut, 3)
    assert torch.equal(torch.nn.functional.avg_pool2d(fined[None], 3)[0], cut)
