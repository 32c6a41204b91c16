"""Norms against bisection on the multiplier of the ball, linear programmes, and known distributions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from threat_oracles import highest, length, projected
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.threats.norms import NORMS, Ball, Norm, norm_named, per_image
from vallum.threats.search import overlay

norms = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
shapes = hnp.array_shapes(min_dims=4, max_dims=4, max_side=3)
pixels = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1, width=32))
radii = st.one_of(st.sampled_from([0.0, 1e-6, 0.25, 1.0, 1e6]), st.floats(0, 4, width=32))
moves = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e5]), st.floats(-4, 4, width=32))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Images, perturbations of them, and a radius for each, all in float64."""
    shape = draw(shapes)
    images = draw(hnp.arrays(np.float64, shape, elements=pixels))
    delta = draw(hnp.arrays(np.float64, shape, elements=moves))
    eps = draw(hnp.arrays(np.float64, shape[0], elements=radii))
    return torch.from_numpy(images), torch.from_numpy(delta), torch.from_numpy(eps)


def random_case(n: int = 4, shape: tuple[int, ...] = (3, 6, 5), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    images = torch.rand(n, *shape, generator=draws)
    images = torch.where(torch.rand(n, *shape, generator=draws) < 0.2, images.round(), images)
    return images, torch.randn(n, *shape, generator=draws), torch.rand(n, generator=draws) * 2


@norms
@settings(max_examples=80)
@given(case=cases())
def test_projection_is_what_bisection_finds(norm: Norm, case: tuple[Tensor, Tensor, Tensor]) -> None:
    images, delta, eps = case
    found = norm.project(delta, eps, -images, 1 - images)
    for one, move, radius, image in zip(found, delta, eps, images, strict=True):
        wanted = projected(norm.name, move.numpy(), float(radius), -image.numpy(), 1 - image.numpy())
        np.testing.assert_allclose(one.numpy(), wanted, atol=1e-9)  # 1e5 in float64 is known to 1e-11


FAR = (torch.tensor([[[[0.875, 0.0]]]]), torch.tensor([[[[1e5, 1.0]]]]), torch.tensor([0.25]))


@norms
@settings(max_examples=40)
@given(case=cases(), seed=st.integers(0, 2**32))
@example(case=tuple(part.double() for part in FAR), seed=0)
def test_projection_is_feasible_idempotent_and_no_feasible_point_is_nearer(
    norm: Norm, case: tuple[Tensor, Tensor, Tensor], seed: int
) -> None:
    images, delta, eps = case
    low, high = -images, 1 - images
    found = norm.project(delta, eps, low, high)
    assert bool(((found >= low) & (found <= high)).all())
    assert bool((norm.length(found) <= eps * (1 + 1e-9) + 1e-9).all())
    torch.testing.assert_close(norm.project(found, eps, low, high), found, rtol=0, atol=1e-9)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        other = torch.from_numpy(rng.uniform(-1, 1, delta.shape)).clamp(low, high)
        reach = norm.length(other)
        other = other * (eps / reach.clamp_min(1e-12)).clamp_max(1.0).view(-1, 1, 1, 1)  # feasible: 0 is in the box
        # The angle between the way back and the way to any feasible point is never sharp.
        rise = ((delta - found) * (other - found)).flatten(1).sum(1)
        assert bool((rise <= 1e-7 * (1 + delta.abs().amax())).all())


@norms
@pytest.mark.parametrize("radius", [0.0, 1e-6, 0.01, 1.0, 15.0])
@pytest.mark.parametrize("kind", ["dense", "sparse", "equal"])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0])
def test_projection_in_float32_agrees_with_that_in_float64(norm: Norm, radius: float, kind: str, scale: float) -> None:
    images, delta, _ = random_case(6, (3, 8, 8))
    images[0], images[1] = 0, 1
    if kind == "sparse":
        delta = delta * (delta > 2)
    elif kind == "equal":
        delta = torch.where(delta > 0, 0.3, delta)
    eps = torch.full((6,), radius)
    found = norm.project(delta * scale, eps, -images, 1 - images)
    low, high = -images.double(), 1 - images.double()
    wanted = norm.project((delta * scale).double(), eps.double(), low, high)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-6 * scale)
    assert bool((norm.length(found) <= eps.double() * (1 + 1e-5) + 1e-9).all())


@norms
@pytest.mark.parametrize("scale", [1e-3, 0.3, 30.0])
def test_projection_in_float32_stays_within_its_rounding(norm: Norm, scale: float) -> None:
    images, delta, eps = random_case(shape=(3, 32, 32))
    found = norm.project(delta * scale, eps, -images, 1 - images)
    assert found.dtype == torch.float32
    for one, move, radius, image in zip(found, delta * scale, eps, images, strict=True):
        arrays = (t.double().numpy() for t in (-image, 1 - image))
        wanted = projected(norm.name, move.double().numpy(), float(radius), *arrays)
        np.testing.assert_allclose(one.double().numpy(), wanted, rtol=2e-7, atol=1e-12)
    assert bool((norm.length(found) <= eps.double() * (1 + 1e-6)).all())


@norms
def test_the_gradient_of_a_projection_is_that_of_small_differences(norm: Norm) -> None:
    images, delta, eps = (t.double() for t in random_case(3, (1, 3, 4)))
    delta[2] *= 1e-3  # which the ball holds as it is

    def projected(delta: Tensor, images: Tensor) -> Tensor:
        return norm.project(delta, eps, -images, 1 - images)

    assert torch.autograd.gradcheck(projected, (delta.clone().requires_grad_(), images.clone().requires_grad_()))
    with torch.no_grad():
        plain = projected(delta, images)
    torch.testing.assert_close(projected(delta.requires_grad_(), images).detach(), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12])
def test_a_step_is_as_long_whatever_the_gradient_is_scaled_by(scale: float) -> None:
    images, gradient, eps = random_case()
    step = norm_named("2").steepest(gradient * scale, eps, -images, 1 - images)
    torch.testing.assert_close(norm_named("2").length(step), eps.double(), rtol=1e-6, atol=0)


@norms
def test_length_is_numpys(norm: Norm) -> None:
    _, delta, _ = random_case()
    wanted = [length(norm.name, one.double().numpy()) for one in delta]
    np.testing.assert_allclose(norm.length(delta).numpy(), wanted, rtol=1e-12)
    assert norm.length(delta).dtype == torch.float64


@norms
def test_steepest_reaches_the_dual_norm(norm: Norm) -> None:
    images, gradient, size = random_case()
    low, high = -images.double(), 1 - images.double()
    step = norm.steepest(gradient.double(), size.double(), low, high)
    rise = (step * gradient).flatten(1).sum(1)
    for i in range(len(images)):
        one = gradient[i].double().numpy()
        if norm.name == "1":  # the only one whose step already knows the box
            wanted = highest("1", one, float(size[i]), low[i].numpy(), high[i].numpy())
        else:
            wanted = float(size[i]) * length({"inf": "1", "2": "2"}[norm.name], one)
        assert float(rise[i]) == pytest.approx(wanted, rel=1e-6)
    torch.testing.assert_close(norm.length(step), size.double())


@norms
@settings(max_examples=30)
@given(case=cases(), seed=st.integers(0, 2**32))
def test_no_sampled_step_is_steeper(norm: Norm, case: tuple[Tensor, Tensor, Tensor], seed: int) -> None:
    images, gradient, size = case
    low, high = -images, 1 - images
    best = (norm.steepest(gradient, size, low, high) * gradient).flatten(1).sum(1)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        other = torch.from_numpy(rng.standard_normal(gradient.shape) ** 3)
        other = norm.project(other, size, low, high)
        rise = (other * gradient).flatten(1).sum(1)
        assert bool((rise <= best * (1 + 1e-9) + 1e-9).all())


def test_l1_step_looks_as_far_as_it_must_and_shares_among_equals() -> None:
    norm, images = NORMS["1"], torch.full((3, 3, 16, 16), 0.75)
    gradient = torch.linspace(1, 2, 768).view(1, 3, 16, 16).repeat(3, 1, 1, 1)
    gradient[1] = 1.0
    size = torch.tensor([100.0, 6.0, 1e6])  # 400 coordinates of 0.25; a share for each; all the room there is
    step = norm.steepest(gradient, size, -images, 1 - images).flatten(1)
    assert (step[0] == 0.25).sum() == 400
    assert float(gradient[0].flatten()[step[0] > 0].min()) > float(gradient[0].flatten()[step[0] == 0].max())
    torch.testing.assert_close(step[1], torch.full((768,), 6 / 768))
    assert bool((step[2] == 0.25).all())


@norms
def test_a_flat_gradient_makes_no_step(norm: Norm) -> None:
    images, _, size = random_case()
    step = norm.steepest(torch.zeros_like(images), size, -images, 1 - images)
    assert not bool(step.any())


@norms
@settings(max_examples=30)
@given(case=cases(), seed=st.integers(0, 2**32))
def test_random_start_is_in_ball_and_box(norm: Norm, case: tuple[Tensor, Tensor, Tensor], seed: int) -> None:
    images, _, eps = case
    start = norm.random(Draws(seed, range(len(images))), eps, -images, 1 - images)
    assert start.dtype == images.dtype
    assert bool(((start >= -images) & (start <= 1 - images)).all())
    assert bool((norm.length(start) <= eps * (1 + 1e-6)).all())


@norms
def test_random_start_is_uniform_in_the_ball(norm: Norm) -> None:
    shape, n = (1, 2, 3), 3000
    eps, box = torch.full((n,), 0.25, dtype=torch.float64), torch.ones(n, *shape, dtype=torch.float64)
    start = norm.random(Draws(0, range(n)), eps, -box, box)  # a box that is far away
    reach = norm.length(start).numpy() / 0.25
    dimension = 6
    assert stats.kstest(reach**dimension, "uniform").pvalue > 1e-3  # the volume within a radius grows with its power
    flat = start.flatten(1).numpy()
    one = flat[:, 2]
    if norm.name == "inf":
        assert stats.kstest(one, stats.uniform(-0.25, 0.5).cdf).pvalue > 1e-3
    elif norm.name == "2":  # a squared coordinate of a random direction
        share = (one / np.linalg.norm(flat, axis=1)) ** 2
        assert stats.kstest(share, stats.beta(0.5, (dimension - 1) / 2).cdf).pvalue > 1e-3
    else:  # a coordinate of a random point of the simplex
        share = np.abs(one) / np.abs(flat).sum(1)
        assert stats.kstest(share, stats.beta(1, dimension - 1).cdf).pvalue > 1e-3
    assert np.abs(np.sign(flat).mean(0)).max() < 4 / np.sqrt(n)
    assert np.abs(np.corrcoef(flat.T) - np.eye(dimension)).max() < 4.5 / np.sqrt(n)


@norms
def test_each_image_is_alone_with_its_radius_bit_for_bit(norm: Norm) -> None:
    images, delta, eps = random_case(n=7, shape=(3, 9, 11))
    keys = [4, -2, 9, 0, 31, 7, 2**40]
    together = (
        norm.project(delta, eps, -images, 1 - images),
        norm.random(Draws(5, keys), eps, -images, 1 - images),
        norm.steepest(delta, eps, -images, 1 - images),
    )
    for i, key in enumerate(keys):
        image, move = images[i : i + 1], delta[i : i + 1]
        radius = per_image(float(eps[i]), image)
        alone = (
            norm.project(move, radius, -image, 1 - image),
            norm.random(Draws(5, [key]), radius, -image, 1 - image),
            norm.steepest(move, radius, -image, 1 - image),
        )
        for many, one in zip(together, alone, strict=True):
            assert torch.equal(many[i : i + 1], one)


@norms
def test_no_images_at_all(norm: Norm) -> None:
    images = torch.zeros(0, 3, 4, 4)
    eps = per_image(0.5, images)
    assert norm.project(images, eps, images, images).shape == images.shape
    assert norm.random(Draws(0, []), eps, images, images).shape == images.shape
    assert norm.steepest(images, eps, images, images).shape == images.shape
    assert norm.length(images).shape == (0,)


def test_names_of_norms() -> None:
    for name in ("inf", "linf", "L_inf", "Linf", float("inf"), NORMS["inf"]):
        assert norm_named(name) is NORMS["inf"]
    for name in ("2", 2, 2.0, "l2", "L2"):
        assert norm_named(name) is NORMS["2"]
    for name in ("1", 1, 1.0, "l1", NORMS["1"]):
        assert norm_named(name) is NORMS["1"]
    with pytest.raises(UserError, match="norm=7: one of inf, 2, 1"):
        norm_named(7)


def test_radii_that_do_not_fit_the_images() -> None:
    images = torch.zeros(3, 1, 2, 2)
    assert per_image(0.5, images).tolist() == [0.5] * 3
    assert per_image(torch.tensor([1.0, 2.0, 3.0]), images).tolist() == [1, 2, 3]
    with pytest.raises(UserError, match=r"eps has shape \(2,\): one number or \(3,\)"):
        per_image(torch.tensor([1.0, 2.0]), images)


@norms
def test_a_ball_does_what_its_norm_does(norm: Norm) -> None:
    images, delta, eps = random_case()
    low, high = -images, 1 - images
    ball, inside = Ball.around(norm, images, eps), norm.project(delta, eps, low, high)
    torch.testing.assert_close(ball.project(delta.clone()), inside, rtol=0, atol=0)
    gradient = torch.randn(delta.shape, generator=torch.Generator().manual_seed(1))
    step = norm.steepest(gradient, eps / 3, low - inside, high - inside)
    expected, kept = norm.project(inside + step, eps, low, high), (inside.clone(), gradient.clone())
    torch.testing.assert_close(ball.step(inside, gradient, eps / 3), expected, rtol=0, atol=1e-6)
    assert torch.equal(inside, kept[0])
    assert torch.equal(gradient, kept[1])
    stays = torch.tensor([False, True, False, True])
    assert torch.equal(ball.take(stays).project(delta[stays].clone()), ball.project(delta.clone())[stays])


@pytest.mark.parametrize("strange", [0.0, torch.nan, torch.inf])
def test_overlaid_rows_are_those_of_the_mask_bit_for_bit(strange: float) -> None:
    draws = torch.Generator().manual_seed(0)
    into, other = (torch.randn(5, 3, 4, 4, generator=draws) for _ in range(2))
    other[1, 0, 0, 0] = strange
    rows = torch.tensor([True, False, True, True, False])
    expected = torch.where(rows.view(-1, 1, 1, 1), other, into)
    overlay(into, other, rows)
    assert torch.equal(into, expected)
