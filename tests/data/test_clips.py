"""Video on disk, as small as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vallum.data import BrokenImageError, Clip, Clips, load_clips, load_data
from vallum.data.sources.camvid import _COLOURS, CLASSES
from vallum.errors import UserError

Save = Callable[..., Path]


def frame(number: int, wide: int = 8, high: int = 4) -> np.ndarray:
    return np.full((high, wide, 3), number, np.uint8)


def test_folders_of_frames(save: Save, tmp_path: Path, zipped: Callable[[Path], Path]) -> None:
    for number in range(8, 12):  # 9 comes before 10
        save(f"v/one/{number}.png", frame(number))
    for number in range(3):
        save(f"v/two/f{number}.png", frame(100 + number))
    save("v/short/0.png", frame(0))
    for place in (tmp_path / "v", zipped(tmp_path / "v")):
        clips = load_clips(f"folder:{place}")
        assert [clips.name(i) for i in range(len(clips))] == ["one/9.png", "one/10.png", "two/f1.png"]
        batch = clips.batch([1, 2])
        assert (batch.frames[:, :, 0, 0, 0] * 255).round().tolist() == [[9, 10, 11], [100, 101, 102]]
        assert batch.frames.shape == (2, 3, 3, 4, 8)
        assert batch.keys.tolist() == [1, 2]
        assert bool(batch.intrinsics.isnan().all())
        assert batch.motion is None
        assert batch.depth is None
    with pytest.raises(UserError, match="no clip 3"):
        clips.read(3)
    with pytest.raises(UserError, match=r"no run of 5 frames.*the longest has 4"):
        load_clips(f"folder:{tmp_path}/v?step=2")


def test_clips_of_runs_share_moments(save: Save, tmp_path: Path) -> None:
    for number in range(9):
        save(f"v/{'ab'[number > 4]}/{number}.png", frame(number))
    clips = load_clips(f"folder:{tmp_path}/v")
    assert (clips.runs(), clips.reach) == ([range(3), range(3, 5)], 2)
    assert load_clips(f"folder:{tmp_path}/v/a?step=2").reach == 4
    world = load_clips("builtin:streets?n=3&size=16x48")
    assert (world.runs(), world.reach) == ([range(1), range(1, 2), range(2, 3)], 0)


def test_broken_frames_can_be_skipped(save: Save, tmp_path: Path) -> None:
    drive = "2011_09_26/2011_09_26_drive_0001_sync/image_02/data"
    sequence = "leftImg8bit_sequence/train/ulm/ulm_000003_{:06}_leftImg8bit.png"
    for number in range(6):
        for name in (f"v/{number}.png", f"k/{drive}/{number}.png", "c/" + sequence.format(number)):
            save(name, frame(number, 8 + 2 * (number == 5)))  # the last is of another size
    for name in ("v/0.png", f"k/{drive}/0.png", "c/" + sequence.format(0)):
        (tmp_path / name).write_bytes(b"no picture")
    for source in (f"folder:{tmp_path}/v", f"kitti:{tmp_path}/k", f"cityscapes:{tmp_path}/c"):
        with pytest.raises(BrokenImageError, match="on_error=skip"):
            load_clips(source).batch(range(4))
        clips = load_clips(f"{source}?on_error=skip")
        assert clips.batch(range(4)).keys.tolist() == [1, 2]
        assert list(clips.skipped) == [clips.name(0), clips.name(3)]
        assert "differ in size" in clips.skipped[clips.name(3)]
        assert load_clips(clips.spec).on_error == "skip"
        assert len(clips.batch([0])) == 0
    with pytest.raises(UserError, match="one of stop, skip"):
        load_clips(f"folder:{tmp_path}/v?on_error=ignore")


def test_films_are_to_be_taken_apart(tmp_path: Path, zipped: Callable[[Path], Path]) -> None:
    folder = tmp_path / "f"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "one.MP4").write_bytes(b"film")
    for place in (folder, zipped(folder), folder / "in" / "one.MP4"):
        with pytest.raises(UserError, match=r"one\.MP4 is a film.*ffmpeg -i \S*one\.MP4 .*clips/one/%06d\.jpg"):
            load_clips(f"folder:{place}")


def test_intrinsics_follow_the_frames(save: Save, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        for number in range(3):
            save(f"v/{name}/{number}.png", frame(number))
    known = {"fx": 10.0, "fy": 11.0, "cx": 3.5, "cy": 1.5}
    (tmp_path / "v" / "intrinsics.json").write_text(json.dumps({"a": known, "b": {**known, "size": [16, 8]}}))
    clips = load_clips(f"folder:{tmp_path}/v?size=2x4")  # half as large
    one, two, three = clips.batch([0, 1, 2]).intrinsics
    assert one.tolist() == [[5.0, 0.0, 1.5], [0.0, 5.5, 0.5], [0.0, 0.0, 1.0]]
    assert two[0].tolist() == [2.5, 0.0, 0.5]  # said for pictures twice as large
    assert bool(three.isnan().all())
    assert load_clips(clips.spec).batch([0]).frames.shape == (1, 3, 3, 2, 4)
    (third,) = load_clips(f"folder:{tmp_path}/v?focal=0.5").batch([2]).intrinsics
    assert third.tolist() == [[4.0, 0.0, 3.5], [0.0, 4.0, 1.5], [0.0, 0.0, 1.0]]
    # The middle of a picture stays its middle at any size: its centre is half a pixel from the pixels' centres.
    (small,) = load_clips(f"folder:{tmp_path}/v?focal=0.5&size=2x4").batch([2]).intrinsics
    assert small[:2, 2].tolist() == [1.5, 0.5]
    (tmp_path / "v" / "intrinsics.json").write_text('{"fx": 10}')
    with pytest.raises(UserError, match="numbers fx, fy, cx, cy"):
        load_clips(f"folder:{tmp_path}/v")
    (tmp_path / "v" / "intrinsics.json").write_text("[1]")
    with pytest.raises(UserError, match="a JSON object"):
        load_clips(f"folder:{tmp_path}/v")


def test_poses_become_motion(save: Save, tmp_path: Path) -> None:
    lines = []
    for number in range(3):
        save(f"v/{number}.png", frame(number))
        lines.append(f"1 0 0 0 0 1 0 0 0 0 1 {number * 2}")
    (tmp_path / "v" / "poses.txt").write_text("\n".join(lines))
    motion = load_clips(f"folder:{tmp_path}/v").read(0).motion
    assert motion is not None
    assert motion[:, 2, 3].tolist() == [2.0, -2.0]  # what lies ahead is further from the camera before
    (tmp_path / "v" / "poses.txt").write_text("1 2 3")
    with pytest.raises(UserError, match=r"twelve numbers for each of 3 frames"):
        load_clips(f"folder:{tmp_path}/v")


def test_kitti_raw(save: Save, tmp_path: Path) -> None:
    drive = "k/2011_09_26/2011_09_26_drive_0001_sync"
    for camera in ("00", "02", "03"):
        for number in range(4):
            save(f"{drive}/image_{camera}/data/{number:010}.png", frame(int(camera) * 10 + number))
    matrix = "7.2e+02 0 6.0e+02 4.5e+01 0 7.1e+02 1.7e+02 2.1e-01 0 0 1 2.7e-03"
    calibration = f"calib_time: 09-Jan-2012\nS_rect_02: 1.2e+03 4.0e+02\nP_rect_02: {matrix}\n"
    (tmp_path / "k/2011_09_26/calib_cam_to_cam.txt").write_text(calibration)
    clips = load_clips(f"kitti:{tmp_path}/k?size=4x12")
    batch = clips.batch(range(4))
    assert (batch.frames[:, 1, 0, 0, 0] * 255).round().tolist() == [21, 22, 31, 32]
    assert batch.intrinsics[0, 0, 0] == pytest.approx(7.2)
    assert batch.intrinsics[0, 1].tolist() == pytest.approx([0, 7.1, 170.5 / 100 - 0.5])
    assert bool(batch.intrinsics[2].isnan().all())  # nothing was said of camera 03
    assert len(load_clips(f"kitti:{tmp_path}/k?camera=03&drive=0001")) == 2
    with pytest.raises(UserError, match="no frames of KITTI raw"):
        load_clips(f"kitti:{tmp_path}/k?drive=0002")


def test_cityscapes_sequences(save: Save, tmp_path: Path) -> None:
    for number in (0, 1, 2, 7, 8, 9, 10):  # two snippets under one name
        save(f"c/leftImg8bit_sequence/val/ulm/ulm_000003_{number:06}_leftImg8bit.png", frame(number))
    camera = tmp_path / "c/camera/val/ulm/ulm_000003_000009_camera.json"
    camera.parent.mkdir(parents=True)
    camera.write_text(json.dumps({"extrinsic": {}, "intrinsic": {"fx": 20, "fy": 21, "u0": 4, "v0": 2}}))
    clips = load_clips(f"cityscapes:{tmp_path}/c?split=val")
    batch = clips.batch(range(len(clips)))
    assert (batch.frames[:, :, 0, 0, 0] * 255).round().tolist() == [[0, 1, 2], [7, 8, 9], [8, 9, 10]]
    assert batch.intrinsics[1].tolist() == [[20, 0, 4], [0, 21, 2], [0, 0, 1]]
    assert bool(batch.intrinsics[0].isnan().all())
    with pytest.raises(UserError, match=r"unpack leftImg8bit_sequence_trainvaltest\.zip"):
        load_clips(f"cityscapes:{tmp_path}/c")


def test_clips_in_arrays(tmp_path: Path) -> None:
    world = load_clips("builtin:streets?n=3&size=16x48")
    batch = world.batch(range(3))
    frames = (batch.frames * 255).round().byte().movedim(2, -1).numpy()
    known = {name: getattr(batch, name).numpy() for name in ("intrinsics", "motion", "depth", "moving")}
    np.savez(tmp_path / "all.npz", frames=frames, **known)
    again = load_clips(f"npz:{tmp_path}/all.npz")
    both = again.batch(range(3))
    for name in ("frames", *known):
        assert torch.equal(getattr(both, name), getattr(batch, name)), name
    assert again.spec == f"npz:{tmp_path}/all.npz"
    half = load_clips(f"npz:{tmp_path}/all.npz?size=8x24").read(1)
    assert half.frames.shape == (3, 3, 8, 24)
    assert half.depth is not None
    assert half.moving is not None
    assert half.intrinsics is not None
    assert half.depth.shape == half.moving.shape == (8, 24)
    assert half.moving.dtype == torch.bool
    assert half.intrinsics[:2, 2].tolist() == pytest.approx([11.5, (float(batch.intrinsics[1, 1, 2]) + 0.5) / 2 - 0.5])
    assert half.intrinsics[0, 0] == pytest.approx(float(batch.intrinsics[1, 0, 0]) / 2)
    np.savez(tmp_path / "frames.npz", frames=frames)
    alone = load_clips(f"npz:{tmp_path}/frames.npz").read(2)
    assert alone.intrinsics is alone.motion is alone.depth is alone.moving is None
    with pytest.raises(UserError, match="no clip 3"):
        again.read(3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": np.zeros((2, 4, 8, 3), np.uint8)}, "has no frames"),
        ({"frames": np.zeros((2, 2, 4, 8, 3), np.uint8)}, r"frames of shape \(2, 2, 4, 8, 3\)"),
        ({"frames": np.zeros((2, 3, 4, 8, 3), np.float32)}, "float32"),
        ({"frames": np.zeros((2, 3, 4, 8, 3), np.uint8), "depth": np.zeros((2, 4, 4))}, r"depth .*\(2, 4, 8\)"),
        ({"frames": np.zeros((2, 3, 4, 8, 3), np.uint8), "motion": np.zeros((1, 2, 4, 4))}, r"motion .*\(2, 2, 4, 4\)"),
    ],
)
def test_arrays_that_are_no_clips(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(UserError, match=said):
        load_clips(f"npz:{tmp_path}/c.npz")


class Blank(Clips):
    spec = "blank"

    def __len__(self) -> int:
        return 3

    def read(self, index: int) -> Clip:
        known = torch.eye(3) if index == 1 else None
        return Clip(torch.zeros(3, 3, 4, 8 + index // 2), known, depth=torch.ones(4, 8) if index else None)


def test_what_only_some_clips_know() -> None:
    batch = Blank().batch([0, 1])
    assert bool(batch.intrinsics[0].isnan().all())
    assert torch.equal(batch.intrinsics[1], torch.eye(3))
    assert batch.depth is not None
    assert bool(batch.depth[0].isnan().all())
    assert batch.depth[1].sum() == 32
    with pytest.raises(UserError, match=r"0 is \(3, 4, 8\), 2 is \(3, 4, 9\)"):
        Blank().batch([0, 2])
    assert load_clips(blank := Blank()) is blank
    with pytest.raises(UserError, match="too late"):
        load_clips(Blank(), size=3)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("drives", "write folder:drives"),
        ("floder:x", "did you mean folder"),
        ("folder:.?stop=2", "did you mean step"),
        ("builtin:streets?step=0", "step=0"),
        ("folder:nowhere", "nowhere does not exist"),
    ],
)
def test_mistakes(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_clips(spec)


def test_camvid_as_first_published(save: Save, tmp_path: Path) -> None:
    painted = np.array(list(_COLOURS), np.uint8).reshape(4, 8, 3)
    for name in ("0001TP_000001", "0001TP_000002"):
        save(f"c/701_StillsRaw_full/{name}.png", frame(1))
        save(f"c/LabeledApproved_full/{name}_L.png", painted)
    data = load_data(f"camvid:{tmp_path}/c")
    labels: Any = data.read(0)[1]
    assert len(data) == 2
    assert labels.flatten().tolist() == list(_COLOURS.values())
    assert set(labels.flatten().tolist()) == {*range(11), 255}
    assert data.classes == CLASSES
    road = dict(zip(map(tuple, painted.reshape(-1, 3).tolist()), labels.flatten().tolist(), strict=True))
    assert road[128, 64, 128] == road[128, 0, 192] == CLASSES.index("road")  # a marking is road
    (tmp_path / "c" / "test.txt").write_text("0001TP_000002.png\n")
    assert load_data(f"camvid:{tmp_path}/c?split=test").name(0).endswith("000002.png")
    save("c/LabeledApproved_full/0001TP_000002_L.png", painted + 1)
    with pytest.raises(UserError, match=r"has the colour .* one of 32 colours"):
        load_data(f"camvid:{tmp_path}/c?split=test").read(0)
