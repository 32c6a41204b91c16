"""Geometry and photometric losses against closed forms, and against streets' exact depth and motion."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from vallum.data import load_clips
from vallum.defences.depth_multitask.geometry import View, flipped, inverse, rigid, warp
from vallum.defences.depth_multitask.judging import constant_errors, depth_errors
from vallum.defences.depth_multitask.photometric import Target, best_explained, difference, smoothness

INTRINSICS = torch.tensor([[[50.0, 0, 31.5], [0, 45.0, 10.0], [0, 0, 1]]])


@pytest.fixture(scope="module")
def street() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Clips in which the camera moves: frames, depth, motion, intrinsics, what moves."""
    clips = load_clips("builtin:streets?n=30&split=val")
    batch = clips.batch(range(12))
    assert batch.motion is not None
    assert batch.depth is not None
    assert batch.moving is not None
    drives = batch.motion[:, 1, 2, 3] < -0.3
    assert int(drives.sum()) >= 5
    depth = batch.depth.clamp(max=1e4)
    return batch.frames[drives], depth[drives], batch.motion[drives], batch.intrinsics[drives], batch.moving[drives]


@settings(max_examples=30)
@given(st.lists(st.floats(-2.5, 2.5), min_size=6, max_size=6))
def test_rigid_motions_are_those_of_scipy(numbers: list[float]) -> None:
    turn, step = torch.tensor([numbers[:3]]), torch.tensor([numbers[3:]])
    made = rigid(turn, step)
    expected = torch.from_numpy(Rotation.from_rotvec(turn.numpy()).as_matrix()).float()
    torch.testing.assert_close(made[:, :3, :3], expected, atol=2e-6, rtol=0)
    assert made[0, :, 3].tolist() == [*step[0].tolist(), 1.0]
    torch.testing.assert_close(inverse(made) @ made, torch.eye(4)[None], atol=2e-6, rtol=0)


def test_no_motion_has_a_gradient() -> None:
    turn = torch.zeros(1, 3, requires_grad=True)
    rigid(turn, torch.zeros(1, 3))[0, 0, 1].backward()
    assert turn.grad is not None
    assert turn.grad.tolist() == [[0.0, 0.0, -1.0]]  # of sin about z


def where_points_appear(depth: Tensor, motion: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns, rows and depths (N, H, W), by way of the points themselves: back projected, moved, projected."""
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)]).to(depth.dtype).flatten(1)
    points = (intrinsics.inverse() @ pixels) * depth.flatten(1)[:, None]
    moved = motion[:, :3, :3] @ points + motion[:, :3, 3:]
    x, y, far = moved.view(-1, 3, height, width).unbind(1)
    fx, fy, cx, cy = (intrinsics[:, i, j, None, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return fx * x / far.clamp_min(1e-3) + cx, fy * y / far.clamp_min(1e-3) + cy, far


def test_a_view_is_back_projection_motion_and_projection() -> None:
    """Its values, and its gradients by depth, motion and camera."""
    draw = torch.Generator().manual_seed(0)
    depth = (torch.rand(2, 20, 64, generator=draw, dtype=torch.float64) * 30 + 1).requires_grad_()
    turn, step = ((torch.rand(2, 3, generator=draw, dtype=torch.float64) * 0.4).requires_grad_() for _ in range(2))
    numbers = torch.tensor([[50.0, 45, 31.5, 10], [61, 60, 30, 9]], dtype=torch.float64, requires_grad=True)
    nought, one = torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    fx, fy, cx, cy = numbers.unbind(1)
    intrinsics = torch.stack([fx, nought, cx, nought, fy, cy, nought, nought, one], 1).view(2, 3, 3)
    with torch.no_grad():
        depth[0, 3, 5] = 1e-4  # behind the other camera, whose step is back
        step[0, 2] = -0.5
    upper = torch.cat([torch.linalg.matrix_exp(_cross(turn)), step[:, :, None]], 2)
    grid, far = View.of(upper, intrinsics, (20, 64)).grid(depth)
    across, down, expected_far = where_points_appear(depth, upper, intrinsics)
    expected = torch.stack([across * 2 / 63 - 1, down * 2 / 19 - 1], -1)
    torch.testing.assert_close(grid, expected)
    torch.testing.assert_close(far, expected_far)
    assert bool((far < 0).any())
    weight = torch.rand(grid.shape, generator=draw, dtype=torch.float64)
    asked = (depth, turn, step, numbers)
    found = torch.autograd.grad((grid * weight).sum(), asked, retain_graph=True)
    wanted = torch.autograd.grad((expected * weight).sum(), asked)
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other)


def _cross(turn: Tensor) -> Tensor:
    x, y, z = turn.unbind(1)
    nought = torch.zeros_like(x)
    return torch.stack([nought, -z, y, z, nought, -x, -y, x, nought], 1).view(-1, 3, 3)


def test_places_are_exact_within_autocast(street: tuple[Tensor, ...]) -> None:
    """bfloat16 has eight bits: a place among 192 columns would be wrong by half a pixel."""
    frames, depth, motion, intrinsics, _ = street
    with torch.autocast("cpu", torch.bfloat16):
        moved, _ = warp(frames[:, 2], depth, motion[:, 1], intrinsics)
        back = inverse(motion[:, 1])
        turned = rigid(torch.full((1, 3), 0.3), torch.zeros(1, 3))
    assert torch.equal(moved, warp(frames[:, 2], depth, motion[:, 1], intrinsics)[0])
    assert torch.equal(back, inverse(motion[:, 1]))
    assert torch.equal(turned, rigid(torch.full((1, 3), 0.3), torch.zeros(1, 3)))


def test_a_step_aside_shifts_a_wall_by_its_disparity() -> None:
    """Before a wall at depth 10 a step of 1 to the right shifts all by f / 10 = 5 pixels."""
    image = torch.rand(1, 3, 20, 64)
    motion = rigid(torch.zeros(1, 3), torch.tensor([[-1.0, 0, 0]]))  # points move left as the camera moves right
    moved, inside = warp(image, torch.full((1, 20, 64), 10.0), motion, INTRINSICS)
    torch.testing.assert_close(moved[..., 5:], image[..., :-5], atol=1e-5, rtol=0)
    assert not bool(inside[..., :5].any())
    assert bool(inside[..., 5:].all())


def test_standing_still_changes_nothing() -> None:
    image = torch.rand(2, 3, 20, 64)
    moved, inside = warp(image, torch.rand(2, 20, 64) + 1, torch.eye(4).expand(2, 4, 4), INTRINSICS.expand(2, 3, 3))
    torch.testing.assert_close(moved, image, atol=2e-5, rtol=0)
    assert bool(inside.all())


def test_what_comes_to_lie_behind_the_camera_is_not_seen() -> None:
    motion = rigid(torch.zeros(1, 3), torch.tensor([[0.0, 0, -5]]))
    moved, inside = warp(torch.rand(1, 3, 20, 64), torch.full((1, 20, 64), 4.0), motion, INTRINSICS)
    assert not bool(inside.any())
    assert bool(moved.isfinite().all())


def test_mirrored_frames_have_a_mirrored_camera(street: tuple[Tensor, ...]) -> None:
    frames, depth, motion, intrinsics, _ = street
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    straight, _ = warp(frames[:, 2], depth, motion[:, 1], intrinsics)
    turned, _ = warp(frames[:, 2].flip(-1), depth.flip(-1), mirror @ motion[:, 1] @ mirror, flipped(intrinsics, 192))
    assert float((turned.flip(-1) - straight).abs().mean()) < 1e-3


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """By its definition."""
    shape = one.shape
    wide = (F.pad(image, (1, 1, 1, 1), "reflect") for image in (one, other))
    windows = [F.unfold(image, 3).view(*shape[:2], 9, *shape[2:]) for image in wide]
    (m1, m2), (v1, v2) = ([w.mean(2) for w in windows], [w.var(2, unbiased=False) for w in windows])
    shared = ((windows[0] - m1[:, :, None]) * (windows[1] - m2[:, :, None])).mean(2)
    c1, c2 = 0.0001, 0.0009
    return (2 * m1 * m2 + c1) * (2 * shared + c2) / ((m1**2 + m2**2 + c1) * (v1 + v2 + c2))


def test_images_differ_by_structure_and_by_value() -> None:
    one, other = torch.rand(2, 1, 2, 7, 9, generator=torch.Generator().manual_seed(1)).double().unbind(0)
    expected = 0.85 * (1 - ssim(one, other)).mean(1) / 2 + 0.15 * (one - other).abs().mean(1)
    torch.testing.assert_close(difference(one, other), expected)
    assert float(difference(one, one).abs().max()) < 1e-12
    # Two flat images differ by a closed form.
    flat = difference(torch.full((1, 1, 4, 4), 0.2), torch.full((1, 1, 4, 4), 0.6))
    like = (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    assert flat[0, 0, 0].item() == pytest.approx(0.85 * (1 - like) / 2 + 0.15 * 0.4, rel=1e-4)


def test_the_gradient_that_is_written_out_is_that_of_autograd() -> None:
    torch.manual_seed(0)
    image, target, weight = torch.rand(3, 2, 3, 6, 9, dtype=torch.float64).unbind(0)
    image[:, :, 2:4, 2:5] = target[:, :, 2:4, 2:5] + 0.02  # alike in places
    image[0, :, :, 7:] = 1 - target[0, :, :, 7:]  # and opposed
    weight = weight[:, 0]
    image.requires_grad_()
    plain = 0.85 * ((1 - ssim(image, target)) / 2).clamp(0, 1).mean(1) + 0.15 * (image - target).abs().mean(1)
    torch.testing.assert_close(difference(image, target), plain)
    (expected,) = torch.autograd.grad((plain * weight).sum(), image)
    (found,) = torch.autograd.grad((difference(image, target) * weight).sum(), image)
    torch.testing.assert_close(found, expected)


def test_true_depth_explains_best(street: tuple[Tensor, ...]) -> None:
    """Every other depth, and every other motion, leaves a greater error."""
    frames, depth, motion, intrinsics, moving = street
    still = torch.stack([difference(frames[:, i], frames[:, 1]) for i in (0, 2)]).amin(0)

    def error(depth: Tensor, motion: Tensor) -> float:
        warped = [warp(frames[:, i], depth, motion[:, i // 2], intrinsics)[0] for i in (0, 2)]
        least, _ = best_explained(Target.of(frames[:, 1]), warped, None)
        return float(least[~moving].mean())

    true = error(depth, motion)
    for factor in (0.6, 0.8, 1.25, 1.6):
        assert true < 0.97 * error(depth * factor, motion), factor
    faster = motion.clone()
    faster[:, :, :3, 3] *= 1.3
    assert true < 0.97 * error(depth, faster)
    assert true < 0.9 * error(torch.full_like(depth, 10.0), motion)
    assert true < 0.6 * float(still[~moving].mean())
    both = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    assert true < 0.9 * error(depth * both, motion)


def test_where_nothing_moves_no_depth_is_learnt(street: tuple[Tensor, ...]) -> None:
    frames, depth, motion, intrinsics, moving = street
    target = Target.of(frames[:, 1])
    still = torch.zeros_like(depth)  # of a frame that is the target itself
    warped = [warp(frames[:, i], depth, motion[:, i // 2], intrinsics)[0] for i in (0, 2)]
    _, explained = best_explained(target, warped, still)
    assert not bool(explained.any())
    still = torch.stack([difference(frames[:, i], target) for i in (0, 2)]).amin(0)
    least, explained = best_explained(target, warped, still)
    near = (depth < 25) & ~moving
    assert float(explained[near].float().mean()) > 0.6
    assert bool((least <= still + 1e-6).all())


def test_smoothness_in_closed_form() -> None:
    """A ramp on a flat image: each step over the mean; an edge of height h in the image divides it by e^h."""
    ramp = torch.arange(1.0, 9).expand(1, 4, 8)
    flat = torch.full((1, 3, 4, 8), 0.5)
    assert smoothness(ramp, flat).item() == pytest.approx(1 / 4.5)
    assert smoothness(ramp * 7, flat).item() == pytest.approx(1 / 4.5)  # whatever its unit
    stepped = torch.where(torch.arange(8) < 4, 0.2, 0.7).expand(1, 3, 4, 8)
    assert smoothness(ramp, stepped).item() == pytest.approx((6 + math.exp(-0.5)) / 7 / 4.5)


def test_figures_of_depth() -> None:
    true = torch.tensor([[[1.0, 2, 4, torch.inf, torch.nan, 200]], [[5.0, 5, 5, 5, 5, 5]]])
    assert constant_errors(true)["abs_rel"] == pytest.approx(((1 + 0 + 0.5) / 3 + 0) / 2)
    found = depth_errors(torch.tensor([[[1.0, 2, 2, 9, 9, 9]], [[1.0, 1, 1, 1, 1, 1]]]), true)
    assert found["abs_rel"] == pytest.approx((0.5 / 3 + 0) / 2)
    assert found["rmse"] == pytest.approx((math.sqrt(4 / 3) + 0) / 2)
    assert found["delta"] == pytest.approx((2 / 3 + 1) / 2)
