"""Every colour on the way can be shown, and no pixel dies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vallum.defences.defensive_patches.colours import (
    COLOURS,
    PRINTED,
    Colours,
    Palette,
    colours,
    roughness,
    unprintability,
)
from vallum.errors import UserError
from vallum.images import Draws

SPECS = [*COLOURS, "box:low=0.2,high=0.7", "palette:levels=2"]


def bounds(space: Colours) -> tuple[torch.Tensor, torch.Tensor]:
    if space.spec.startswith(("print", "palette")):
        low, high = torch.tensor(PRINTED).view(2 * 3).view(3, 2).unbind(1)
    else:
        low = torch.full((3,), getattr(space, "low", 0.0))
        high = torch.full((3,), getattr(space, "high", 1.0))
    return low.view(3, 1, 1), high.view(3, 1, 1)


@pytest.mark.parametrize("spec", SPECS)
@given(st.floats(0, 60), st.floats(0, 1), st.integers(0, 99))
def test_whatever_the_numbers_colours_are_in_gamut(spec: str, size: float, progress: float, seed: int) -> None:
    space = colours(spec)
    low, high = bounds(space)
    numbers = size * Draws(seed, [0]).normal(2, space.channels, 4, 4, purpose="any")[0]
    space.settle(numbers)
    shown, final = space.show(numbers, progress), space.final(numbers)
    assert bool((shown >= low - 1e-6).all())
    assert bool((shown <= high + 1e-6).all())
    assert bool((final >= low - 1e-6).all())
    assert bool((final <= high + 1e-6).all())
    assert float(((final * 255).round() / 255 - final).abs().max()) < 1e-6


@pytest.mark.parametrize("spec", SPECS)
@given(st.floats(0, 1000), st.integers(0, 99))
def test_no_pixel_dies_however_far_it_was_driven(spec: str, size: float, seed: int) -> None:
    space = colours(spec)
    numbers = size * Draws(seed, [0]).normal(1, space.channels, 3, 3, purpose="any")[0]
    space.settle(numbers)
    numbers.requires_grad_()
    # The mixture of inks is sharpened by and by: at the beginning it still gives way.
    (gradient,) = torch.autograd.grad(
        space.show(numbers / (size + 1) if "palette" in spec else numbers, 0.0).sum(), numbers
    )
    assert bool((gradient.abs().sum(-3) > 0).all())


@pytest.mark.parametrize("spec", SPECS)
def test_numbers_of_colours_show_those_colours(spec: str) -> None:
    space = colours(spec)
    low, high = bounds(space)
    wanted = low + (high - low) * Draws(0, range(2)).uniform(3, 4, 4, purpose="any")
    if isinstance(space, Palette):
        wanted = space.inks[torch.randint(len(space.inks), (2, 4, 4))].movedim(-1, -3)
        assert torch.equal(space.final(space.of(wanted)), wanted)
    else:
        torch.testing.assert_close(space.show(space.of(wanted)), wanted, atol=2e-3, rtol=0)
        assert float((space.final(space.of(wanted)) - wanted).abs().max()) < 1 / 255


@pytest.mark.parametrize("spec", ["box:low=0.5,high=0.5", "box:high=2", "palette:levels=1", "palette:levels=9"])
def test_what_is_no_colour_space_is_refused(spec: str) -> None:
    with pytest.raises(UserError):
        colours(spec)


def test_roughness_is_the_mean_step_between_neighbours_in_the_mask() -> None:
    mask = torch.tensor([[1.0, 1], [1, 0]])
    patch = torch.tensor([[[[0.0, 0.5], [0.25, 9.0]]]]).expand(1, 3, 2, 2)
    assert float(roughness(patch, mask)) == pytest.approx((0.5 + 0.25) / 2)


def test_unprintability_is_the_distance_to_the_nearest_colour_that_prints() -> None:
    black = torch.zeros(1, 3, 2, 2)
    nearest = torch.tensor([low for low, _ in PRINTED])
    assert float(unprintability(black, torch.ones(2, 2))) == pytest.approx(float(nearest.norm()), abs=8e-3)
    assert float(unprintability(Palette(levels=4).inks[7].view(1, 3, 1, 1), torch.ones(1, 1))) == pytest.approx(
        0, abs=1e-6
    )
