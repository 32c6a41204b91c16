"""The kept pictures are what the model saw, under the same guarantees as the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vallum
from vallum.errors import UserError
from vallum.evaluation.pictures import LARGEST, spread
from vallum.evaluation.run import Run
from vallum.images import Task
from vallum.models.model import Wrapped
from vallum.threats import PGD, Gaussian

THREATS = [PGD(2 / 255, steps=3), Gaussian(std=0.2)]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()


def data(n: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (images * 255).round() / 255, torch.arange(n) % 3


def evaluated(out: Path, **options: Any) -> Run:
    settings = {"threats": THREATS, "batch_size": 6, "pictures": 5, "progress": False, **options}
    return vallum.evaluate(net(), data(), out=out, **settings)


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "pictures").iterdir())}


def test_they_are_what_the_model_saw(tmp_path: Path) -> None:
    run = evaluated(tmp_path)
    images, labels = data()
    kept = {(p.threat, p.key): p for p in run.pictures}
    assert set(kept) == {(t, k) for t in ("clean", *(t.spec for t in THREATS)) for k in (0, 4, 8, 12, 16)}
    for key in (0, 4, 8, 12, 16):
        before = images[key].movedim(0, 2).double().numpy()
        assert np.abs(kept["clean", key].original - before).max() < 1e-6
        assert not kept["clean", key].difference.any()
        for threat in THREATS:
            # the batches of the run, as rounding depends on them
            first = key // 6 * 6
            batch = slice(first, min(first + 6, 20))
            after = threat(net(), images[batch], labels[batch], range(batch.start, batch.stop))[key - first]
            delta = after.movedim(0, 2).double().numpy() - before
            found = kept[threat.spec, key]
            assert found.original is None
            assert np.abs(found.difference - delta).max() <= np.abs(delta).max() / 253


def test_they_are_the_same_for_any_number_of_workers_and_after_a_resume(tmp_path: Path) -> None:
    model = vallum.load_model("net:resnet?classes=43")
    common = {"threats": THREATS, "n": 12, "batch_size": 4, "pictures": 6, "progress": False}
    for name, workers in (("one", 1), ("two", 2)):
        vallum.evaluate({"net": model}, "builtin:signs", out=tmp_path / name, workers=workers, **common)
    whole = bytes_of(tmp_path / "one")
    assert bytes_of(tmp_path / "two") == whole
    assert len(whole) == 9
    lost, spoilt = sorted((tmp_path / "one" / "pictures").iterdir())[:2]
    lost.unlink()
    spoilt.write_bytes(whole[spoilt.name][:-1])
    with pytest.raises(UserError, match="is damaged"):
        _ = Run(tmp_path / "one").pictures
    vallum.evaluate({"net": model}, "builtin:signs", out=tmp_path / "one", **common)
    assert bytes_of(tmp_path / "one") == whole


def test_more_can_be_asked_for_later_and_rows_stay(tmp_path: Path) -> None:
    few = evaluated(tmp_path, pictures=0)
    rows = few.fetch("SELECT * FROM rows ORDER BY ALL")[1]
    assert few.pictures == []
    assert not (tmp_path / "pictures").exists()
    more = evaluated(tmp_path, pictures=20)
    assert more.fetch("SELECT * FROM rows ORDER BY ALL")[1] == rows
    assert len(more.pictures) == 60
    assert more.plan.id == few.plan.id


def test_a_segmenter_keeps_its_masks(tmp_path: Path) -> None:
    model = Wrapped(nn.Conv2d(3, 3, 1), task=Task.SEGMENT, classes=3).eval()
    images = data(2)[0]
    masks = torch.randint(3, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    masks[:, 0] = 255
    run = vallum.evaluate(model, (images, masks), [], out=tmp_path, progress=False)
    for picture in run.pictures:
        assert (picture.truth == masks[picture.key].numpy()).all()
        answer = model(images[picture.key : picture.key + 1]).argmax(1)[0]
        assert (picture.answer == answer.numpy()).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_large_images_are_kept_smaller(tmp_path: Path, channels: int) -> None:
    side = 2 * LARGEST - 2
    images = torch.rand(1, channels, side, 40)
    model = Wrapped(nn.Sequential(nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten()), classes=2 * channels).eval()
    run = vallum.evaluate(model, (images, torch.tensor([2 * channels - 1])), [], out=tmp_path, progress=False)
    [picture] = run.pictures
    assert picture.original is not None
    assert picture.original.shape == (side // 2, 20, min(channels, 3))
    expected = nn.functional.avg_pool2d(images, 2)[0].movedim(0, 2)[..., :3]
    assert np.abs(picture.original - expected.numpy()).max() <= 0.5 / 255 + 1e-6


def test_they_are_spread() -> None:
    assert spread([3, 5, 7], 24) == [3, 5, 7]
    assert spread(range(10), 0) == []
    assert spread(range(10), 3) == [0, 3, 6]


def test_a_negative_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pictures=-1"):
        evaluated(tmp_path, pictures=-1)


def test_rows_say_the_signal_to_noise_ratio(tmp_path: Path) -> None:
    run = evaluated(tmp_path)
    images = data()[0].double()
    energy = images.flatten(1).square().sum(1).tolist()
    for key, l2, snr in run.fetch("SELECT key, l2, snr FROM rows WHERE threat != 'clean'")[1]:
        assert snr == pytest.approx(10 * np.log10(energy[key] / l2**2), abs=1e-3)
    assert {snr for (snr,) in run.fetch("SELECT snr FROM rows WHERE threat = 'clean'")[1]} == {None}
