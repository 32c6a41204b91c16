"""Patches put where they shall lie: bit for bit where they are upright, and no farther than they may reach."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.threats.placement import Area, Placement, covered, paste, side_for, warped

KEYS = range(6)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(dtype)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(9, 40), st.integers(9, 40), st.integers(0, 99))
def test_upright_on_whole_pixels_it_is_a_copy_and_the_rest_is_untouched(
    high: int, wide: int, height: int, width: int, seed: int
) -> None:
    images, patch = noise(6, 3, height, width), 1 - noise(6, 3, high, wide)
    place = Placement.drawn(Draws(seed, KEYS), images, (high, wide))
    wanted, where = images.clone(), torch.zeros(6, 1, height, width)
    for i in range(6):
        top, left = int(place.row[i] - high / 2), int(place.column[i] - wide / 2)
        wanted[i, :, top : top + high, left : left + wide] = patch[i]
        where[i, :, top : top + high, left : left + wide] = 1
    found, there = paste(images, patch, place)
    assert torch.equal(found, wanted)
    assert torch.equal(there, where)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
def test_a_quarter_turn_is_a_quarter_turn(turns: int) -> None:
    images, patch = torch.zeros(2, 3, 11, 13), noise(1, 3, 5, 5)
    centre = Placement.at(torch.tensor([5.5, 4.5]), torch.tensor([6.5, 3.5]))
    turned = Placement(centre.row, centre.column, torch.tensor([90.0 * turns] * 2), centre.scale)
    wanted = paste(images, patch.rot90(turns, (2, 3)), centre)[0]  # anticlockwise
    torch.testing.assert_close(paste(images, patch, turned)[0], wanted, rtol=0, atol=2e-3)


@given(st.floats(0, 5), st.floats(0, 180), st.floats(1, 2), st.integers(0, 99))
def test_jittered_it_lies_inside_and_touches_no_more_than_its_share(
    shift: float, rotation: float, scale: float, seed: int
) -> None:
    images, share = noise(6, 1, 24, 31), 0.2
    side, draws = side_for(share, images, scale), Draws(seed, KEYS)
    place = Placement.drawn(draws, images, (side, side)).jittered(draws, shift, rotation, (1 / scale, scale))
    shown, there = warped(torch.ones(1, 1, side, side), None, place.inside(images, (side, side)), images)
    assert torch.equal(shown, there), "one map for the patch and for its shape"
    assert float((there > 0).double().mean((1, 2, 3)).max()) <= share
    whole = side**2 * place.scale.square()  # what it would cover, cut off nowhere
    torch.testing.assert_close(there.sum((1, 2, 3)), whole, rtol=0.25, atol=1.0)


def test_a_shape_lets_the_image_through() -> None:
    images, patch, shape = noise(2, 3, 8, 8), noise(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    shape[..., 1:3, 1:3], shape[..., 0, 0] = 1.0, 0.25
    found, there = paste(images, patch, Placement.centred(images), shape)
    assert torch.equal(there[:, :, 2:6, 2:6], shape.expand(2, -1, -1, -1))
    mixed = images[:, :, 2:6, 2:6] * (1 - shape) + patch * shape
    torch.testing.assert_close(found[:, :, 2:6, 2:6], mixed)


def test_gradients_reach_patch_shape_images_and_placement() -> None:
    images, patch, shape = (noise(*s, dtype=torch.float64) for s in ((2, 1, 6, 6), (2, 1, 3, 3), (1, 1, 3, 3)))
    jitter = Placement.centred(images).jittered(Draws(0, range(2)), 1.0, 30.0, (0.9, 1.3))

    def pasted(images: Tensor, patch: Tensor, shape: Tensor) -> Tensor:
        return paste(images, patch, jitter, shape)[0]

    assert torch.autograd.gradcheck(pasted, tuple(t.clamp(0.1, 0.9).requires_grad_() for t in (images, patch, shape)))
    parts = [torch.tensor([2.7, 3.1]), torch.tensor([2.9, 3.3]), torch.tensor([10.0, -20]), torch.tensor([1.1, 0.9])]
    places = [part.double().requires_grad_() for part in parts]
    paste(images, patch, Placement(*places))[0].square().sum().backward()
    assert all(bool((part.grad != 0).all()) for part in places)


def test_what_is_covered_in_a_mask_is_ignored() -> None:
    there = torch.zeros(2, 1, 4, 4)
    there[0, 0, :2] = 0.3
    masks = covered(torch.ones(2, 4, 4, dtype=torch.long), there)
    assert (masks == IGNORE).flatten(1).sum(1).tolist() == [8, 0]
    assert covered(torch.ones(2, dtype=torch.long), there).tolist() == [1, 1]


def test_area_and_side() -> None:
    delta = torch.zeros(1, 3, 4, 5)
    delta[0, 1, 2, 3] = delta[0, 2, 2, 3] = 1e-6
    assert float(Area().length(delta)) == 1 / 20
    assert side_for(0.25, torch.zeros(1, 3, 32, 32)) == 16
    assert side_for(1.0, torch.zeros(1, 3, 20, 80)) == 20
    with pytest.raises(UserError, match="would hold no pixel"):
        side_for(0.001, torch.zeros(1, 3, 16, 16))
