"""The world of streets: the same however it is asked for, and true to its own depth and motion."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.data import load_clips, load_data
from vallum.data.worlds.street_city import KERB, City
from vallum.data.worlds.street_eye import FACES, GROUND, SKY, Camera, Rig, cast
from vallum.data.worlds.street_rolls import Rolls
from vallum.data.worlds.street_route import SECONDS, drive
from vallum.data.worlds.street_solids import CLASSES, PAVEMENT, ROAD, TERRAIN, ball, box, placed
from vallum.data.worlds.street_solids import SKY as SKY_CLASS
from vallum.data.worlds.street_things import car, tree
from vallum.data.worlds.streets import StreetClips, Streets
from vallum.errors import UserError
from vallum.images import Task, check_images

WORLD = Streets(n=60)
PICTURES = [WORLD.picture(index) for index in range(60)]
GOLDEN_SUMS = [3435828, 3705929, 2783180]
GOLDEN_LABELS = [7254710, 4164680, 6147733]


def stream(key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key))


def test_an_image_is_the_same_in_any_batch() -> None:
    batch = WORLD.batch([7, 3, 7])
    for row, index in enumerate([7, 3, 7]):
        assert torch.equal(batch.images[row], WORLD.read(index)[0])
        assert torch.equal(batch.labels[row], torch.from_numpy(PICTURES[index].labels))
    assert batch.keys.tolist() == [7, 3, 7]
    assert torch.equal(Streets(n=100_000).read(3)[0], batch.images[1])  # however many there are
    assert len(WORLD.batch([])) == 0


def test_the_world_has_not_changed() -> None:
    """If it was meant to change, raise WORLD_VERSION and write the new sums here.

    Tiny matrix products round differently between processors, so a value here and there may differ by one.
    """
    sums = [int(PICTURES[index].image.sum(dtype=np.int64)) for index in (0, 1, 42)]
    labels = [
        int((PICTURES[index].labels * (np.arange(64 * 192) % 251).reshape(64, 192)).sum()) for index in (0, 1, 42)
    ]
    assert sums == pytest.approx(GOLDEN_SUMS, rel=1e-4)
    assert labels == pytest.approx(GOLDEN_LABELS, rel=1e-3)


@pytest.mark.parametrize("other", [{"split": "train"}, {"split": "val"}, {"seed": 1}])
def test_splits_and_seeds_share_no_image(other: dict[str, Any]) -> None:
    world = Streets(n=60, **other)
    assert not torch.equal(world.read(0)[0], WORLD.read(0)[0])
    assert not {WORLD.identity(i) for i in range(60)} & {world.identity(i) for i in range(60)}


def test_images_are_photographs_of_every_class() -> None:
    images = WORLD.batch(range(20)).images
    check_images(images)
    assert torch.equal(images, (images * 255).round() / 255)
    assert 0.2 < float(images.mean()) < 0.5
    assert float(images.std(dim=(1, 2, 3)).median()) > 0.1
    share = np.bincount(np.concatenate([p.labels.ravel() for p in PICTURES]), minlength=len(CLASSES)) / (60 * 64 * 192)
    assert bool((share > 5e-4).all())
    assert len(CLASSES) >= 8
    assert WORLD.task is Task.SEGMENT


def test_another_size_shows_the_same_scene() -> None:
    large = Streets(n=60, size=(128, 384))
    for index in range(4):
        picture = large.picture(index)
        centres = picture.labels[::2, ::2]  # half a pixel from the small picture's
        assert (centres == PICTURES[index].labels).mean() > 0.85
        shrunk = picture.image.reshape(64, 2, 192, 2, 3).mean((1, 3))
        same, other = (np.abs(shrunk - PICTURES[i].image).mean() for i in (index, index + 1))
        assert same < 0.5 * other


def test_the_ground_lies_where_depth_and_pose_say() -> None:
    for index in range(6):
        made, picture = WORLD.drive(index), PICTURES[index]
        v, u = np.mgrid[:64, :192].astype(float)
        rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(made.intrinsics).T
        pose = made.pose(0)
        points = (rays * np.minimum(picture.depth, 1e6)[..., None]) @ pose[:3, :3].T + pose[:3, 3]
        near = picture.depth < 60
        assert np.abs(points[(picture.labels == ROAD) & near][:, 1]).max() < 2e-3
        level = (picture.labels == PAVEMENT) | (picture.labels == TERRAIN)
        height = -points[level & near][:, 1]
        assert height.max() < KERB + 2e-3
        assert (np.abs(height - KERB) < 2e-3).mean() > 0.8  # the rest are kerb stones
        assert bool(np.isinf(picture.depth[picture.labels == SKY_CLASS]).all())
        assert bool(np.isfinite(picture.depth[picture.labels != SKY_CLASS]).all())


def warped(
    image: Tensor, depth: Tensor, motion: Tensor, intrinsics: Tensor, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """`image` (C, H, W) of the other camera as this one sees it; where that is known; depths in the other camera."""
    height, width = depth.shape
    v, u = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    rays = torch.linalg.inv(intrinsics.double()) @ torch.stack([u, v, torch.ones_like(u)]).flatten(1)
    moved = motion[:3, :3].double() @ (rays * depth.double().clamp(max=1e5).flatten()) + motion[:3, 3:].double()
    across, down, far = (intrinsics.double() @ moved).view(3, height, width)
    across, down = across / far, down / far
    grid = torch.stack([2 * across / (width - 1) - 1, 2 * down / (height - 1) - 1], -1).float()
    made = F.grid_sample(image[None], grid[None], mode, "border", align_corners=True)[0]
    inside = (across >= 0) & (across <= width - 1) & (down >= 0) & (down <= height - 1) & (far > 0)
    return made, inside, far.float()


def test_the_next_frame_warped_is_this_frame() -> None:
    """Outside occlusions and what moves, by exact depth and motion: to 0.016 on average, of which noise is 0.007."""
    clips = StreetClips(n=12, split="test")
    errors, unwarped, shares = [], [], []
    for index in range(12):
        clip = clips.read(index)
        assert clip.intrinsics is not None
        assert clip.motion is not None
        assert clip.depth is not None
        assert clip.moving is not None
        other = torch.from_numpy(clips.drive(index, 3).frame(2).depth).clamp(max=1e5)
        made, inside, far = warped(clip.frames[2], clip.depth, clip.motion[1], clip.intrinsics, "bilinear")
        there, _, _ = warped(other[None], clip.depth, clip.motion[1], clip.intrinsics, "nearest")
        seen = inside & ~clip.moving & ((there[0] - far).abs() < 0.05 * far)
        errors.append(float((made - clip.frames[1]).abs().mean(0)[seen].mean()))
        unwarped.append(float((clip.frames[2] - clip.frames[1]).abs().mean(0)[seen].mean()))
        shares.append(float(seen.float().mean()))
    assert np.mean(shares) > 0.6
    assert np.mean(errors) < 0.016
    assert max(errors) < 0.03
    moves = np.array(unwarped) > 0.02  # where the camera's car stands, both are noise
    assert moves.sum() >= 6
    assert np.mean(np.array(errors)[moves]) < 0.5 * np.mean(np.array(unwarped)[moves])


def test_while_the_car_waits_only_what_moves_changes() -> None:
    world = StreetClips(n=200, split="val")
    waiting = [index for index in range(200) if world.drive(index, 3).way[2].travelled == 0][:2]
    assert waiting
    for index in waiting:
        clip = world.read(index)
        assert clip.motion is not None
        assert clip.moving is not None
        torch.testing.assert_close(clip.motion, torch.eye(4).expand(2, 4, 4), atol=1e-6, rtol=0)
        change = (clip.frames[1] - clip.frames[0]).abs().mean(0)
        rests = ~(clip.moving | torch.from_numpy(world.drive(index, 3).frame(0).moving))
        assert float((change[rests] > 0.03).float().mean()) < 0.005


def test_frames_are_the_same_one_by_one() -> None:
    for index in range(4):
        drive_of = StreetClips(n=9, size=(48, 96)).drive(index, 6)
        for number, together in zip((0, 3, 5), drive_of.frames((0, 3, 5)), strict=True):
            alone = drive_of.frame(number)
            for field in ("image", "labels", "depth", "moving"):
                assert np.array_equal(getattr(alone, field), getattr(together, field)), field


def test_clips_are_steps_of_one_drive() -> None:
    clips = load_clips("builtin:streets?n=5&size=32x96&step=2")
    clip = clips.read(4)
    assert isinstance(clips, StreetClips)
    made = clips.drive(4, 5)
    assert clip.frames.shape == (3, 3, 32, 96)
    for place, number in enumerate((0, 2, 4)):
        assert np.array_equal(
            (clip.frames[place] * 255).round().byte().permute(1, 2, 0).numpy(), made.frame(number).image
        )
    assert clip.motion is not None
    for other, number in zip(clip.motion, (0, 4), strict=True):
        assert np.allclose(other.numpy(), np.linalg.inv(made.pose(number)) @ made.pose(2), atol=1e-5)
        assert np.allclose(other[:3, :3] @ other[:3, :3].T, np.eye(3), atol=1e-5)


def brute(camera: Camera, solids: np.ndarray, picked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row and the depth of what each ray meets first: slabs and quadratics, ray by ray."""
    count = len(picked)
    rays = camera.directions(picked).astype(float)  # (3, n)
    first, row = np.full(count, np.inf), np.full(count, SKY)
    with np.errstate(divide="ignore", invalid="ignore"):
        ground = -camera.at[1] / rays[1]
        first = np.where(rays[1] < 0, ground, first)
        row = np.where(rays[1] < 0, GROUND, row)
        for number, solid in enumerate(solids):
            middle = np.array([solid["x"], (solid["y0"] + solid["y1"]) / 2, solid["z"]])[:, None]
            half = np.array([solid["half"][0], (solid["y1"] - solid["y0"]) / 2, solid["half"][1]])[:, None]
            start = (camera.at[:, None] - middle) / half
            step = rays / half
            if solid["round"]:
                a, b, c = (step**2).sum(0), (start * step).sum(0), (start**2).sum(0) - 1
                enter = (-b - np.sqrt(b**2 - a * c)) / a
                hit = (b**2 >= a * c) & (enter > 0)
            else:
                low, high = (-1 - start) / step, (1 - start) / step
                enter = np.minimum(low, high).max(0)
                hit = (enter < np.maximum(low, high).min(0)) & (enter > 0)
            nearer = hit & (enter < first)
            first, row = np.where(nearer, enter, first), np.where(nearer, number, row)
    return row, first


def test_rays_meet_what_they_meet_one_by_one() -> None:
    numbers = np.random.default_rng(5)
    n = 160
    x, z, low = numbers.uniform(-12, 12, n), numbers.uniform(-3, 45, n), numbers.uniform(0, 3, n)
    size = numbers.uniform(0.2, 3, (3, n))
    solids = box(x, z, low, low + size[0], size[1], size[2], 0)
    solids["round"] = numbers.random(n) < 0.4
    made = WORLD.drive(0).camera(0)
    camera = Camera(np.array([0.3, 1.5, 0.0]), made.axes, made.across, made.down)
    inside = (np.abs(x - 0.3) < size[1] / 2) & (np.abs(z) < size[2] / 2) & (low < 1.5) & (low + size[0] > 1.5)
    solids = solids[~inside]  # nobody looks out of a wall
    n = len(solids)
    turned = WORLD.drive(3).camera(0)
    other = Camera(np.array([-0.2, 1.4, 0.5]), turned.axes, made.across, made.down)
    # Two frames at once, of which each has solids of its own.
    seen = cast(Rig([camera, other]), np.concatenate([solids, solids[::2]]), np.repeat([0, 1], [n, len(solids[::2])]))
    places = np.arange(seen.surface[0].size).reshape(seen.surface[0].shape)
    picked = np.concatenate([places[:, 0].ravel(), places[:-1, 1, :-1].ravel()])  # all corners, and all centres
    row = seen.surface.reshape(2, -1)[:, picked] // FACES
    assert (seen.frame[row] == [[0], [1]]).all()
    second, far = brute(other, solids[::2], picked)
    assert ((seen.rows[row[1]] - np.where(second < 0, 0, n)) != second)[far > 0.25].mean() < 2e-3
    found = seen.rows[row[0]]
    expected, depth = brute(camera, solids, picked)
    depth_found = 1 / np.maximum(seen.inverse[0].ravel()[picked], 1e-9)
    near = depth < 0.25  # nearer than the eye sees
    differ = (found != expected) & ~near
    assert differ.mean() < 2e-3  # at edges, by rounding, and what is smaller than a sample
    same = ~differ & ~near & (expected != SKY)
    assert len(set(found[same])) > 30
    assert np.allclose(depth_found[same], depth[same], rtol=1e-3)


def test_corners_and_centres_lie_where_pixels_have_them() -> None:
    """Seen straight ahead a ray's place is the pixel's, through the intrinsics."""
    made = WORLD.drive(0)
    camera = Camera(np.zeros(3), np.eye(3), made.camera(0).across, made.camera(0).down)
    height, width = WORLD.size
    rays = camera.directions(np.arange((height + 1) * 2 * (width + 1)))
    x, y = (made.intrinsics @ (rays * [[1], [-1], [1]]))[:2].reshape(2, height + 1, 2, width + 1)
    across, down = np.meshgrid(np.arange(width + 1), np.arange(height + 1))
    assert np.allclose(x[:, 0], across - 0.5, atol=1e-3)
    assert np.allclose(y[:, 0], down - 0.5, atol=1e-3)
    assert np.allclose(x[:, 1], across, atol=1e-3)
    assert np.allclose(y[:, 1], down, atol=1e-3)


def test_a_quarter_turn_is_a_rotation() -> None:
    rolls = Rolls(stream(1), (5,))
    for made in (car(rolls), tree(rolls), ball(rolls.roll(), 2.0, 0, 1, 2, 3, 0)):
        turned = placed(made, 3.0, 4.0, 1)
        assert np.allclose(turned["x"], made["z"] + 3)
        assert np.allclose(turned["z"], -made["x"] + 4)
        around = placed(placed(placed(placed(made, 0, 0, 1), 0, 0, 1), 0, 0, 1), 0, 0, 1)
        for field in ("x", "z", "half", "slope", "velocity", "turn"):
            assert np.allclose(around[field], made[field]), field
        three = placed(made, 0, 0, 3)
        assert np.allclose(three["slope"], placed(placed(made, 0, 0, 2), 0, 0, 1)["slope"])


def test_the_way_is_driven_without_leaps() -> None:
    turned = stopped = 0
    for key in range(12):
        city = City.of(stream(key))
        way, _ = drive(city, stream(key + 100), 150)
        for one, other in itertools.pairwise(way):
            step = math.hypot(other.x - one.x, other.z - one.z)
            assert step <= one.speed * SECONDS + 0.15
            if step > 0.3:
                course = math.atan2(other.x - one.x, other.z - one.z)
                between = (one.heading + other.heading) / 2  # a turn goes on counting past half a circle
                assert abs(math.remainder(course - between, 2 * math.pi)) < 0.12
            off = min(
                abs(value - round(value / pitch) * pitch)
                for value, pitch in ((other.x, city.pitch_x), (other.z, city.pitch_z))
            )
            assert off < city.road  # on one of the streets
        turned += abs(way[-1].heading - way[0].heading) > 1
        stopped += any(station.speed == 0 for station in way[1:])
    assert turned >= 2
    assert stopped >= 2


@pytest.mark.parametrize("options", ["", "?n=7&size=48x96&split=val&seed=3&focal=1.1"])
def test_the_spec_makes_the_world_again(options: str) -> None:
    data = load_data(f"builtin:streets{options}")
    again = load_data(data.spec)
    assert isinstance(data, Streets)
    assert torch.equal(data.read(3)[0], again.read(3)[0])
    assert data.read(3)[1].shape == ((48, 96) if options else (64, 192))
    clips = load_clips(f"builtin:streets{options}")
    assert torch.equal(clips.read(3).frames, load_clips(clips.spec).read(3).frames)


def test_focal_is_in_widths() -> None:
    wide, narrow = (Streets(n=2, focal=focal).drive(1) for focal in (0.5, 1.0))
    assert wide.intrinsics[0, 0] == 96
    assert narrow.intrinsics[0, 0] == 192


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"n": 0}, "n=0"), ({"size": (8, 192)}, "size=8x192"), ({"split": "x"}, "split="), ({"focal": 9.0}, "focal=9")],
)
def test_mistakes_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Streets(**wrong)


def test_no_drive_beyond_the_end() -> None:
    with pytest.raises(UserError, match="0 to 59"):
        WORLD.read(60)
    with pytest.raises(UserError, match="signs"):
        load_clips("builtin:signs")
