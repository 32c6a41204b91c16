"""One matrix for patch and mask, exact on whole pixels, differentiable, each image for itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vallum.defences.defensive_patches import PatchSet, Scenes
from vallum.defences.defensive_patches.laying import lay, matrix_of
from vallum.defences.defensive_patches.shapes import shape
from vallum.images import Draws
from vallum.threats.placement import Placement, paste

WILD = Scenes(shift=3, rotation=40, scale=1.4, perspective=0.3)
RING = shape("ring:outer=30,inner=26").mask(32, 32)[1:31, 1:31]


def ringed(classes: int = 4, fineness: int = 1, seed: int = 0) -> PatchSet:
    mask = RING.repeat_interleave(fineness, 0).repeat_interleave(fineness, 1)
    colours = Draws(seed, range(classes)).uniform(3, *mask.shape, purpose="colours")
    return PatchSet(colours, mask, tuple(map(str, range(classes))), (32, 32), fineness, "ring:outer=30,inner=26")


def images(count: int = 5, side: int = 32) -> torch.Tensor:
    return Draws(1, range(count)).uniform(3, side, side, purpose="images")


def test_upright_a_pixel_is_the_patch_or_the_image() -> None:
    patches, labels = ringed(), torch.tensor([0, 3, 2, 2, 1])
    laid = patches.lay(images(), labels)
    whole = torch.nn.functional.pad(RING, (1, 1, 1, 1)) > 0
    assert torch.equal(laid[:, :, 1:31, 1:31][:, :, RING > 0], patches.patches[labels][:, :, RING > 0])
    assert torch.equal(laid[:, :, ~whole], images()[:, :, ~whole])


def test_a_finer_patch_is_seen_as_the_mean_of_its_pixels() -> None:
    fine = ringed(fineness=4)
    coarse = PatchSet(torch.nn.functional.avg_pool2d(fine.patches, 4), RING, fine.classes, (32, 32))
    labels = torch.arange(4)
    torch.testing.assert_close(fine.lay(images(4), labels), coarse.lay(images(4), labels))


@given(st.sampled_from([1, 2, 4, 8]), st.integers(16, 70))
def test_upright_in_place_is_the_same_by_pixels_and_by_a_matrix(fineness: int, side: int) -> None:
    patches, labels = ringed(fineness=fineness), torch.arange(4)
    here, upright = images(4, side), torch.eye(3).expand(4, 3, 3)
    torch.testing.assert_close(patches.lay(here, labels), patches.lay(here, labels, placed=upright), atol=1e-4, rtol=0)


@pytest.mark.parametrize("fineness", [1, 4])
def test_patch_and_mask_move_by_one_matrix(fineness: int) -> None:
    """A white patch over black images shows exactly as much white as it covers, and hides as much of white ones."""
    patches = ringed(fineness=fineness)
    patches.patches = torch.ones_like(patches.patches)
    labels, black = torch.zeros(40, dtype=torch.int64), torch.zeros(40, 3, 32, 32)
    placed = WILD.placed(Draws(3, range(40)), black)
    white, there = patches.laid(black, labels, placed=placed)
    torch.testing.assert_close(white, there.expand_as(white), atol=1e-6, rtol=0)
    patches.patches = torch.zeros_like(patches.patches)
    hidden, again = patches.laid(black + 1, labels, placed=placed)
    torch.testing.assert_close(1 - hidden, there.expand_as(white), atol=1e-6, rtol=0)
    assert torch.equal(there, again)
    assert float((there.sum((1, 2, 3)) - 224).abs().max()) > 1  # they did move


def test_it_puts_a_patch_where_attacks_put_theirs() -> None:
    here, patch = images(), Draws(2, range(5)).uniform(3, 9, 9, purpose="patch")
    places = [[10.0, 16, 20, 13, 9], [12.0, 16, 9, 18, 22], [0.0, 10, -30, 45, 90]]
    place = Placement(*map(torch.tensor, places), torch.ones(5))
    expected, there = paste(here, patch, place)
    laid, over = lay(here, patch, torch.ones(9, 9), 1.0, matrix_of(place, here))
    torch.testing.assert_close(laid, expected, atol=2e-3, rtol=0)  # `paste` rounds places to 2 ** -12 pixels
    torch.testing.assert_close(over, there, atol=2e-3, rtol=0)


@pytest.mark.parametrize("moved", [False, True])
def test_gradients_are_zero_outside_the_mask_and_not_inside(moved: bool) -> None:
    patches, labels = ringed(), torch.arange(4)
    patches.patches.requires_grad_()
    placed = WILD.placed(Draws(3, range(4)), images(4)) if moved else None
    weights = Draws(5, range(4)).normal(3, 32, 32, purpose="weights")
    (patches.lay(images(4), labels, placed=placed) * weights).sum().backward()
    assert patches.patches.grad is not None
    assert bool((patches.patches.grad[:, :, RING == 0] == 0).all())
    assert (
        float((patches.patches.grad[:, :, RING > 0] != 0).double().mean()) > 0.5
    )  # the others were moved out of the image


def test_the_gradient_is_that_of_what_is_computed() -> None:
    mask = torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=torch.float64)
    here, patch = (0.2 + 0.6 * torch.rand(2, 3, n, n, dtype=torch.float64, requires_grad=True) for n in (6, 3))
    placed = Scenes(rotation=20, perspective=0.1).placed(Draws(0, range(2)), here)
    assert torch.autograd.gradcheck(lambda i, p: lay(i, p, mask, 1.0, placed)[0], (here, patch))


def test_an_image_does_not_look_at_its_neighbours() -> None:
    patches, labels, here = ringed(fineness=2), torch.tensor([0, 3, 2, 2, 1]), images()
    placed = WILD.placed(Draws(3, range(5)), here)
    assert placed is not None
    whole = patches.lay(here, labels, placed=placed)
    for i in (4, 0, 2):
        alone = WILD.placed(Draws(3, [i]), here[i : i + 1])
        torch.testing.assert_close(patches.lay(here[i : i + 1], labels[i : i + 1], placed=alone)[0], whole[i])
