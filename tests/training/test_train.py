"""Training as a whole: what it computes, what it writes, and how it answers mistakes."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from training_toys import Dots, Interrupted, Net

import vallum
from vallum.errors import UserError
from vallum.images import Task
from vallum.models import weights_fingerprint
from vallum.training import train
from vallum.training.loader import held_out

BUILD = f"{Path(__file__).parent / 'training_toys.py'}:Net"


def plan(**changes: Any) -> dict[str, Any]:
    return {"epochs": 2, "batch_size": 8, "quiet": True, "device": "cpu", **changes}


def test_steps_are_those_of_a_loop_written_out(tmp_path: Path) -> None:
    data, ours, theirs = Dots(n=16, dtype=torch.float64), Net().double(), Net().double()
    how = {"lr": 0.1, "warmup": 0, "schedule": "constant", "weight_decay": 0.01, "shift": 0, "colour": 0, "clip": 0.5}
    train(ours, data, out=tmp_path, **plan(epochs=3, batch_size=16, validation=0, **how))
    batch = data.batch(range(16))  # one batch of all images, in whatever order
    velocity = [torch.zeros_like(p) for p in theirs.parameters()]
    for _ in range(3):
        gradients = torch.autograd.grad(F.cross_entropy(theirs(batch.images), batch.labels), list(theirs.parameters()))
        length = torch.sqrt(sum((g.square().sum() for g in gradients), torch.zeros(())))
        with torch.no_grad():
            for p, v, g in zip(theirs.parameters(), velocity, gradients, strict=True):
                g = g * min(1.0, 0.5 / (float(length) + 1e-6)) + (0.01 * p if p.ndim > 1 else 0)
                v.mul_(0.9).add_(g)
                p.sub_(0.1 * (g + 0.9 * v))
    for got, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("average", [0.0, 0.8])
@pytest.mark.parametrize("task", list(Task))
def test_log_says_what_an_independent_count_says(task: Task, average: float, tmp_path: Path) -> None:
    data = Dots(task=task)
    model = train(Net(task), data, out=tmp_path, **plan(validation=0.3, average=average, lr=0.5))
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["3", "6"]
    batch = data.batch(held_out(data, 0.3, 0)[1].tolist())
    with torch.no_grad():
        predicted = model(batch.images).argmax(1)
    known = batch.labels != 255 if task is Task.SEGMENT else torch.ones_like(batch.labels, dtype=torch.bool)
    hits = (predicted == batch.labels)[known].double().mean()
    assert float(rows[-1]["validation_accuracy"]) == pytest.approx(float(hits))
    assert ("validation_miou" in rows[-1]) == (task is Task.SEGMENT)
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())


def test_log_of_the_training_loss_is_the_mean_over_the_epoch(tmp_path: Path) -> None:
    data = Dots(n=32)
    how = plan(epochs=1, batch_size=16, validation=0, shift=0, colour=0, lr=1e-12, show_every=1, checkpoint_every=1)
    model = train(Net(), data, out=tmp_path, **how)
    batch = data.batch(range(32))
    with torch.no_grad():
        expected = float(F.cross_entropy(model(batch.images), batch.labels))
    row = next(csv.DictReader((tmp_path / "log.csv").open()))
    assert float(row["loss"]) == pytest.approx(expected, rel=1e-6)


def test_robust_accuracy_is_that_of_the_recipes_attack(tmp_path: Path) -> None:
    data = Dots(whole=True)
    model = train(
        Net(), data, "adversarial:eps=8/255,steps=2", out=tmp_path, robust_images=10, **plan(lr=0.5, validation=0.5)
    )
    batch = data.batch(held_out(data, 0.5, 0)[1][:10].tolist())
    attacked = vallum.threat("pgd:eps=8/255,steps=10")(model, batch.images, batch.labels, batch.keys)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    expected = float((model(attacked).argmax(1) == batch.labels).double().mean())
    assert float(rows[-1]["robust_accuracy"]) == pytest.approx(expected)


def test_same_seed_same_weights_and_nothing_else_decides(tmp_path: Path) -> None:
    def weights(name: str, **changes: Any) -> str:
        torch.manual_seed(len(name))
        return weights_fingerprint(train(Net(dropout=0.2), Dots(), out=tmp_path / name, **plan(**changes)))

    first = weights("one")
    same = {"workers": 1, "cache": 0, "show_every": 1, "checkpoint_every": 1, "robust_images": 3}
    assert weights("other", **same) == first
    assert weights("another", seed=1) != first


def test_a_network_named_by_its_source_starts_as_the_seed_says(tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> str:
        how = plan(epochs=1, lr=1e-3, seed=seed)
        return weights_fingerprint(train("net:resnet", Dots(n=20), out=tmp_path / name, **how))

    assert weights("one", 0) == weights("same", 0) != weights("other", 1)


def test_the_callers_randomness_and_mode_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    net = Net()
    torch.manual_seed(5)
    assert train(net, Dots(), out=tmp_path, **plan()) is net
    assert torch.equal(torch.rand(3), expected)
    assert not net.training
    assert all(p.is_contiguous() and p.grad is None for p in net.parameters())


def test_validation_data_of_their_own(tmp_path: Path) -> None:
    train(Net(), Dots(n=16), out=tmp_path, **plan(validation=Dots(n=24)))
    facts = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert facts["plan"]["validation"] == Dots(n=24).fingerprint(range(24))
    assert facts["state"]["images"] == 0
    assert facts["state"]["history"][0]["step"] == 2  # no image was held out


def test_bf16_keeps_weights_in_float32(tmp_path: Path) -> None:
    model = train(Net(), Dots(), "adversarial:eps=2/255,steps=2", out=tmp_path, **plan(precision="bf16-mixed"))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    plain = train(Net(), Dots(), "adversarial:eps=2/255,steps=2", out=tmp_path / "plain", **plan())
    one, other = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (model, plain))
    assert 0 < float((one - other).norm() / other.norm()) < 0.1  # it was used, and is as good as the same


def test_what_is_saved_loads_and_tells_how_it_was_made(tmp_path: Path) -> None:
    model = train(Net(), Dots(), "plain", out=tmp_path, build=BUILD, **plan())
    card = json.loads((tmp_path / "vallum.json").read_text())["extra"]["training"]
    assert card["recipe"] == "plain"
    assert card["settings"]["epochs"] == 2
    assert card["data"] == {"spec": "dots", "fingerprint": Dots().fingerprint(range(40)), "images": 36}
    assert card["device"] == "cpu"
    assert {"command", "seconds", "validation", "processes"} <= card.keys()
    loaded = vallum.load_model(tmp_path, trust=True)
    images = Dots().batch(range(8)).images
    assert torch.equal(loaded(images), model(images))


def test_a_model_made_in_python_leaves_its_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(Net(), Dots(), out=tmp_path, **plan())
    assert (tmp_path / "weights.safetensors").exists()
    assert "build='file.py:function'" in capsys.readouterr().err


def test_tensorboard_where_it_is_installed(tmp_path: Path) -> None:
    train(Net(), Dots(), out=tmp_path, **plan())
    assert bool(list(tmp_path.glob("tensorboard/events*"))) == bool(importlib.util.find_spec("tensorboard"))


def test_a_line_per_epoch_where_there_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(Net(), Dots(), out=tmp_path, **plan(quiet=False))
    said = capsys.readouterr().err
    assert said.count("plain: epoch") == 2
    assert "\x1b" not in said


@pytest.mark.parametrize("when", [0, 2, 5])
def test_nan_stops_and_keeps_the_checkpoint_from_before(when: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no longer finite by step \d+.*lower lr \(it is 0.1\)"):
        train(Net(), Dots(), Interrupted(nan=when), out=tmp_path, **plan(checkpoint_every=1))
    kept = tmp_path / "checkpoint.pt"
    assert kept.exists() == (when > 0)
    if kept.exists():
        state = torch.load(kept, weights_only=True)["state"]
        assert all(bool(values.isfinite().all()) for values in state["model"].values())
        assert state["epoch"] * 4 + state["step_in_epoch"] == when
    assert not (tmp_path / "weights.safetensors").exists()


def test_mistakes_are_told_before_training_begins(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    few = Net()
    few.classes = ("a", "b")
    for arguments, options, said in (
        ((Net(), Dots(n=0)), {}, "there are no images"),
        ((few, Dots()), {}, "the model's classes number 2, the data's 4"),
        ((Net(), Dots(task=Task.SEGMENT)), {}, "the model's task is classify, the data's segment"),
        ((Net(), Dots()), {"recipe": "plane"}, "no recipe is called 'plane'; did you mean plain"),
        ((Net(), Dots()), {"out": file}, "file cannot be written to"),
        ((Net(), Dots()), {"out": file / "below"}, "cannot be written to"),
        ((Net(), Dots()), {"epoch": 1}, "no setting 'epoch'"),
        ((Net(), Dots()), {"validation": 1.5}, "validation=1.5"),
        ((Net(), Dots()), {"validation": Dots(task=Task.SEGMENT)}, "the validation data's task is segment"),
        ((Net(), Dots()), {"device": "cuda:7"}, "CUDA"),
    ):
        with pytest.raises(UserError, match=said):
            train(*arguments, **{"out": tmp_path / "out", **plan(), **options})


def test_outputs_that_are_not_as_many_as_the_classes(tmp_path: Path) -> None:
    net = Net()
    net.classes, net.head = None, torch.nn.Linear(32, 7)
    with pytest.raises(UserError, match="7"):
        train(net, Dots(), out=tmp_path, **plan())
