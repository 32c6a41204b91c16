"""What depth is judged on, and that the gate asks for depth: constants, the truth, cars that stand, broken frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from vallum.data import Clip, Clips, load_clips, load_data
from vallum.data.worlds.streets import StreetClips
from vallum.defences import Context, DepthMultitask, load_depth
from vallum.defences.depth_multitask import recipe as recipe_module
from vallum.defences.depth_multitask.companion import Companion
from vallum.defences.depth_multitask.feed import Feed
from vallum.defences.depth_multitask.gate import EXPLAINED, FACTORS, explained, verdict
from vallum.defences.depth_multitask.holding import HELD_OUT, moves, parted
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models import Model, Wrapped, load_model
from vallum.models.segmenter import Segmenter
from vallum.training import train

SIZE = (32, 96)
DATA = load_data("builtin:streets?n=4&size=32x96&split=train")
BATCH = DATA.batch(range(4))


def segmenter() -> Model:
    torch.manual_seed(0)
    return load_model("net:segmenter", classes=DATA.classes)


class Unknown(Clips):
    """Streets of which nobody knows the depth."""

    spec = "streets without depth"

    def __init__(self, n: int) -> None:
        self.world = StreetClips(n, SIZE, "val")

    def __len__(self) -> int:
        return len(self.world)

    def read(self, index: int) -> Clip:
        return replace(self.world.read(index), depth=None, moving=None)


class Says(nn.Module):
    """Inverse depths that were given, one batch after the other, as the decoder says them."""

    def __init__(self, inverse: Sequence[Tensor]) -> None:
        super().__init__()
        self.inverse = list(inverse)

    def forward(self, features: Any) -> list[Tensor]:
        inverse = self.inverse.pop(0)
        return [torch.expm1(inverse / inverse.mean((1, 2), keepdim=True) - 1e-3 + 1e-6).log()]


class Moves(nn.Module):
    """Motions that were given; lengths in units of depths whose inverse has the mean 0.1, times a factor."""

    def __init__(self, motions: Sequence[Tensor], units: Sequence[Tensor]) -> None:
        super().__init__()
        self.motions = [motion.clone() for motion in motions]
        for motion, unit in zip(self.motions, units, strict=True):
            motion[:, :, :3, 3] *= unit.view(-1, 1, 1)

    def both(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.motions.pop(0).unbind(1)  # type: ignore[return-value]


def judged(monkeypatch: pytest.MonkeyPatch, relief: float, length: float = 1.0) -> dict[str, Any]:
    """What the gate says of a share of the true relief, flat for the rest, under the true motion times a length."""
    monkeypatch.setattr(recipe_module, "load_clips", lambda video, size: Unknown(60))
    model, made = segmenter().eval(), DepthMultitask("builtin:streets")
    companion = made.companion(model, BATCH.images).eval()
    assert isinstance(companion, Companion)
    batches = companion.feed.judged(8)  # type: ignore[union-attr]
    known = [StreetClips(60, SIZE, "val").batch(batch.keys.tolist()) for batch in batches]
    inverse = [1 / torch.as_tensor(batch.depth).clamp(max=200) for batch in known]
    units = [0.1**-1 * one.mean((1, 2)) * length for one in inverse]
    companion.decoder = Says([relief * one + (1 - relief) * one.mean((1, 2), keepdim=True) for one in inverse])  # type: ignore[assignment]
    companion.pose = Moves([torch.as_tensor(batch.motion) for batch in known], units)  # type: ignore[assignment]
    return made.finish(model, companion)


def test_without_true_depth_the_gate_stays_shut_to_a_constant_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the motion: the true one explains much of every frame, and depth has no part in it."""
    for length in (0.5, 1.0, 2.0):
        found = judged(monkeypatch, 0.0, length)
        assert found["depth_learnt"] is False
        assert found["depth_fitted_error"] == pytest.approx(found["depth_constant_error"], abs=2e-4)
        assert "constant depth leaves" in found["failed"]
    assert found["depth_constant_error"] < 0.8 * found["depth_still_error"]


def test_without_true_depth_the_gate_opens_to_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for length in (0.5, 1.0, 2.0):
        found = judged(monkeypatch, 1.0, length)
        assert found["depth_learnt"] is True
        assert found["depth_fitted_error"] < 0.75 * found["depth_constant_error"]
        assert "failed" not in found
    assert "depth_abs_rel" not in found
    half, little = judged(monkeypatch, 0.6), judged(monkeypatch, 0.1)
    assert half["depth_learnt"]
    assert not little["depth_learnt"]


def test_the_gate_stays_shut_to_a_network_that_has_learnt_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_module, "load_clips", lambda video, size: Unknown(40))
    model, made = segmenter().eval(), DepthMultitask("builtin:streets")
    torch.manual_seed(0)
    found = made.finish(model, made.companion(model, BATCH.images).eval())
    assert found["depth_learnt"] is False


def test_explained_is_what_its_parts_say() -> None:
    """A wrong length of the motion is taken away, for a depth and for the constant it is compared with."""
    batch = StreetClips(6, SIZE, "val").batch(range(6))
    depth = torch.as_tensor(batch.depth).clamp(max=200)
    motion = torch.as_tensor(batch.motion)
    one = explained(batch.frames, depth, motion.unbind(1), batch.intrinsics)
    other = explained(batch.frames, depth * FACTORS[2], motion.unbind(1), batch.intrinsics)
    flat = explained(batch.frames, torch.full_like(depth, 7.0), motion.unbind(1), batch.intrinsics)
    assert bool((one["fitted_error"] <= one["warped_error"]).all())
    torch.testing.assert_close(one["warped_error"], one["fitted_error"], atol=2e-3, rtol=0)
    torch.testing.assert_close(other["fitted_error"], one["fitted_error"], atol=1e-5, rtol=0)
    assert bool((other["warped_error"] > one["warped_error"])[moves(batch.frames)].all())
    torch.testing.assert_close(flat["fitted_error"], flat["constant_error"])
    assert verdict({"fitted_error": EXPLAINED * 0.99, "constant_error": 1.0})["depth_learnt"]
    assert not verdict({"fitted_error": EXPLAINED * 1.01, "constant_error": 1.0})["depth_learnt"]
    assert not verdict({"fitted_error": 0.0, "constant_error": 0.0})["depth_learnt"]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(0, 10))
def test_no_moment_is_trained_on_and_judged(lengths: list[int], reach: int) -> None:
    starts = [sum(lengths[:place]) for place in range(len(lengths) + 1)]
    runs = [range(start, stop) for start, stop in pairwise(starts)]
    train_on, held_out = parted(runs, reach)
    assert 1 <= len(held_out) == len(set(held_out)) <= min(HELD_OUT, max(1, starts[-1] // 10))
    for run in runs:
        near = {close for index in held_out if index in run for close in range(index - reach, index + reach + 1)}
        assert {*run} - {*train_on} == near & {*run}
    lost = starts[-1] - len(train_on) - len(held_out)
    assert lost <= 2 * reach * len(runs) + 2 * len(held_out) + 2 * reach  # no more than the blocks' surroundings
    assert parted(runs, reach) == (train_on, held_out)


def test_held_out_clips_are_of_all_drives_and_of_all_of_each() -> None:
    _, held_out = parted([range(49), range(49, 98), range(98, 317)], 2)
    assert [sum(index in run for index in held_out) for run in (range(49), range(49, 98), range(98, 317))] == [3, 4, 24]
    assert max(b - a for a, b in pairwise(held_out)) < 50
    assert parted([range(9), range(9, 100)], 1000)[0] in ([*range(9)], [*range(9, 100)], [])


def drives(folder: Path, lengths: Sequence[int], stands_from: int = 10**6, broken: Sequence[str] = ()) -> Path:
    """Frames of drives; from some frame on the car stands, and a camera's noise is all that changes."""
    world = StreetClips(len(lengths), SIZE, "train")
    for number, length in enumerate(lengths):
        drive, place = world.drive(number, length), folder / f"d{number}"
        place.mkdir(parents=True)
        for time in range(length):
            picture = torch.from_numpy(drive.frame(min(time, stands_from)).image).int()
            if time > stands_from:
                torch.manual_seed(time)
                picture = (picture + torch.randint(-1, 2, picture.shape)).clamp(0, 255)
            Image.fromarray(picture.byte().numpy()).save(place / f"{time:03}.png")
    for name in broken:
        (folder / name).write_bytes(b"no picture")
    return folder


def test_a_car_that_stands_at_the_end_fails_no_run(tmp_path: Path) -> None:
    clips = load_clips(f"folder:{drives(tmp_path, (12, 30), stands_from=20)}")
    feed = Feed(clips, 1e9)
    last = feed.source.batch([35, 36, 37])
    assert not bool(moves(last.frames).any())
    assert min(feed.held_out) < 30
    feed.refuse_stillness()
    made, model = DepthMultitask(f"folder:{tmp_path}"), segmenter().eval()
    companion = made.companion(model, BATCH.images).eval()
    feed = companion.feed  # type: ignore[assignment]
    feed.held_out = [3, 15, 35, 36]
    found = made.finish(model, companion)
    assert (found["depth_clips"], found["depth_clips_still"]) == (4, 2)
    feed.held_out = [3, 15]
    again = made.finish(model, companion)
    assert found["depth_still_error"] == again["depth_still_error"] > 0.02
    feed.held_out = [35, 36]
    with pytest.raises(UserError, match=r"in 0 of the 2 clips held out of folder:.* the camera moves.*raise step="):
        feed.refuse_stillness()


def test_video_in_which_nothing_moves_is_refused_before_the_training(tmp_path: Path) -> None:
    drives(tmp_path, (24,), stands_from=0)
    with pytest.raises(UserError, match="the camera moves"):
        DepthMultitask(f"folder:{tmp_path}").companion(segmenter(), BATCH.images)
    DepthMultitask(f"folder:{tmp_path}", task="none").companion(segmenter(), BATCH.images)  # which judges no depth
    with pytest.raises(UserError, match=r"too few clips, 3: .*take longer drives"):
        Feed(load_clips(f"folder:{drives(tmp_path / 'short', (5,))}/d0"), 1e9)


def met(made: DepthMultitask) -> tuple[Any, list[Any]]:
    """The companion, and the clips of twelve steps."""
    companion: Any = made.companion(segmenter(), BATCH.images)
    batches = [companion.feed.of_step(0, step, 0, 8) for step in range(12)]
    companion.feed.pool.shutdown()
    return companion, batches


def test_a_broken_frame_ends_no_training_where_it_may_be_skipped(tmp_path: Path) -> None:
    drives(tmp_path, (16, 16), broken=("d0/003.png",))
    made = DepthMultitask(f"folder:{tmp_path}?on_error=skip", clips=1.0, scales=1)
    with pytest.warns(UserWarning, match=r"clip d0/00[234].png is left out, another one takes its place") as said:
        companion, batches = met(made)
    assert len(said) == 1
    feed = companion.feed
    keys = [key for batch in batches for key in batch.keys.tolist()]
    assert {len(batch) for batch in batches} == {8}
    assert not {1, 2, 3} & {*keys}  # whose frames include the broken one
    assert not {*feed.held_out} & {*keys}
    assert {*feed.source.broken} == {1, 2, 3} & {*feed.train, *feed.held_out}
    with pytest.warns(UserWarning, match="left out"):
        _, again = met(made)
    assert [batch.keys.tolist() for batch in again] == [batch.keys.tolist() for batch in batches]
    found = made.finish(segmenter().eval(), companion.eval())
    assert found["clips_left_out"] == len(feed.source.broken)
    with pytest.raises(UserError, match="on_error=skip"):
        met(replace(made, video=f"folder:{tmp_path}"))


def test_where_every_frame_is_broken_it_is_said(tmp_path: Path) -> None:
    drives(tmp_path, (8, 8), broken=[f"d{d}/{t:03}.png" for d in range(2) for t in range(8)])
    feed = Feed(load_clips(f"folder:{tmp_path}?on_error=skip"), 1e9)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(UserError, match="leave out on_error=skip"):
        feed.of_step(0, 0, 0, 2)
    feed.pool.shutdown()


def test_the_estimated_camera_is_found_again(tmp_path: Path) -> None:
    drives(tmp_path / "v", (16, 16))
    with pytest.raises(UserError, match="depth was not learnt"):
        train(
            segmenter(),
            DATA,
            DepthMultitask(f"folder:{tmp_path}/v", keep_depth=True, scales=1),
            out=tmp_path / "out",
            epochs=1,
            batch_size=2,
            optimizer="adamw",
            lr=1e-2,
            validation=0,
            quiet=True,
        )
    found = json.loads((tmp_path / "out" / "vallum.json").read_text())["extra"]["training"]["findings"]
    depth = load_depth(tmp_path / "out")
    assert depth.focal == pytest.approx(found["focal_in_widths"], abs=1e-4)
    assert depth.focal != (pytest.approx(0.8, abs=1e-6), pytest.approx(0.8, abs=1e-6))
    assert depth.focal is not None
    expected = [[96 * depth.focal[0], 0, 47.5], [0, 96 * depth.focal[1], 15.5], [0, 0, 1]]
    torch.testing.assert_close(depth.intrinsics(SIZE), torch.tensor(expected))
    known = load_depth("builtin:streets_segmenter_depth")
    assert known.focal is None
    with pytest.raises(UserError, match="was not estimated"):
        known.intrinsics(SIZE)


@pytest.mark.parametrize("task", ["depth", "picture"])
def test_a_grey_segmenter_learns_from_clips_in_colour(task: Any, tmp_path: Path) -> None:
    drives(tmp_path, (12, 12))
    model = Wrapped(Segmenter(4, 1), task="segment", classes=4, mean=(0.5,), std=(0.25,)).train()
    images = Batch(torch.rand(2, 1, *SIZE), torch.randint(0, 4, (2, *SIZE)), torch.arange(2), ["a", "b"])
    made = DepthMultitask(f"folder:{tmp_path}", task=task, clips=1.0)
    companion = made.companion(model, images.images)
    made.step(model, images, Context(companion=companion))["loss"].backward()
    frames = companion.feed.of_step(0, 0, 0, 2).frames  # type: ignore[attr-defined]
    colour = Feed(load_clips(f"folder:{tmp_path}"), 1e9).of_step(0, 0, 0, 2).frames
    torch.testing.assert_close(frames[:, :, 0], (colour * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(2))


def test_a_path_may_hold_what_an_option_is_called(tmp_path: Path) -> None:
    drives(tmp_path / "size=7", (12, 12))
    companion = DepthMultitask(f"folder:{tmp_path}/size=7").companion(segmenter(), BATCH.images[..., :64])
    assert companion.feed.judged(1)[0].frames.shape[-2:] == (32, 64)  # type: ignore[attr-defined]
    companion = DepthMultitask(f"folder:{tmp_path}/size=7?size=16x32").companion(segmenter(), BATCH.images)
    assert companion.feed.judged(1)[0].frames.shape[-2:] == (16, 32)  # type: ignore[attr-defined]


@pytest.mark.parametrize("video", ["builtin:streets?n=6", "builtin:streets?n=6&size=224x224"])
def test_an_encoder_of_one_size_says_so(video: str) -> None:
    model = load_model("smp:DPT?encoder=tu-vit_tiny_patch16_224", classes=DATA.classes)
    with pytest.raises(UserError, match=r"does not take images of 3x32x96.*size=224"):
        DepthMultitask(video).companion(model, BATCH.images)
