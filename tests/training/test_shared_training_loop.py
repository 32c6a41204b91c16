"""Shared training in the loop: heaps over processes and parts, banks in the checkpoints, for both tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import training_toys
from test_processes import trained
from training_toys import Dots, Net

from vallum.defences import SharedTraining
from vallum.images import Task
from vallum.models import weights_fingerprint
from vallum.training import train

PLAN: dict[str, Any] = {"epochs": 2, "batch_size": 8, "checkpoint_every": 2, "quiet": True, "validation": 0.2}
HEAP_OF_ALL = SharedTraining(eps=0.1, sharedness="batch", steps=3, bank=2, fresh=0.25)


def test_a_heap_spans_two_processes_in_two_parts_each(tmp_path: Path) -> None:
    """In float64 the perturbations are the same bit for bit, for a sum's sign does not hang on its order."""
    one, single = trained(tmp_path / "one", HEAP_OF_ALL)
    two, double = trained(tmp_path / "two", HEAP_OF_ALL, devices=2, accumulate=2)
    assert torch.equal(single["companion"]["entries"], double["companion"]["entries"])
    assert bool((single["companion"]["entries"].abs() > 0.09).any())
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-9, atol=1e-11)
    for before, after in zip(single["history"], double["history"], strict=True):
        for name in ("loss", "train_robust_accuracy", "attacked_accuracy", "robust_accuracy"):
            assert after[name] == pytest.approx(before[name], rel=1e-6)


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("steps", [0, 2])
def test_killed_it_goes_on_with_what_its_bank_held(steps: int, task: Task, tmp_path: Path) -> None:
    def net() -> Net:
        return Net(task, norm="batch")

    made = SharedTraining(eps=0.1, sharedness=4, steps=steps, bank=2)
    whole = train(net(), Dots(task=task), made, out=tmp_path / "whole", **PLAN)

    class Failing(SharedTraining):
        spec = made.spec

        def step(self, model: Any, batch: Any, context: Any) -> Any:
            if context.step == 5:
                raise InterruptedError
            return super().step(model, batch, context)

    failing = Failing(eps=0.1, sharedness=4, steps=steps, bank=2)
    with pytest.raises(InterruptedError):
        train(net(), Dots(task=task), failing, out=tmp_path / "killed", **PLAN)
    resumed = train(net(), Dots(task=task), made, out=tmp_path / "killed", **PLAN)
    assert weights_fingerprint(resumed) == weights_fingerprint(whole)


def test_it_learns_to_see_through_what_is_shared(tmp_path: Path) -> None:
    """Of a colour that is added to every image, and of the search that looks for one after each epoch."""
    settings = {**PLAN, "epochs": 12, "lr": 0.1, "validation": 0.25, "batch_size": 12}
    made = SharedTraining(eps=0.2, sharedness=12, steps=2, robust_weight=0.7)
    train(Net(), Dots(96), made, out=tmp_path, **settings)
    first, *_, last = (tmp_path / "log.csv").read_text().splitlines()
    row = dict(zip(first.split(","), map(float, last.split(",")), strict=True))
    assert row["train_robust_accuracy"] > 0.9
    assert row["validation_accuracy"] > 0.95
    assert row["robust_accuracy"] > 0.9


def test_what_batch_norm_takes_away_and_heaps_that_are_no_heaps_are_told_once(tmp_path: Path, capsys: Any) -> None:
    settings = {**PLAN, "quiet": False, "epochs": 2, "lr": 0.01, "checkpoint_every": 0}
    made = SharedTraining(eps=0.1, sharedness=64, steps=1)
    train(Net(norm="batch"), Dots(), made, out=tmp_path / "few", build=f"{training_toys.__file__}:Net", **settings)
    said = capsys.readouterr().err
    assert said.count("sharedness=64 takes heaps of 64 images, and a weight step has 8") == 1
    assert said.count("batch norm sees 8 images at once in 1 heap") == 1
    assert "batch_norm=frozen" in said
    findings = json.loads((tmp_path / "few" / "vallum.json").read_text())["extra"]["training"]["findings"]
    assert len(findings["doubts"]) >= 2
    still = SharedTraining(eps=0.1, sharedness=8, steps=1, batch_norm="frozen")
    train(Net(norm="batch"), Dots(), still, out=tmp_path / "still", **{**settings, "epochs": 1})
    assert "mind:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "at_once", "few"),
    [
        ({"sharedness": 8}, 64, False),
        ({"sharedness": 8}, 56, True),  # as where 64 images go through in several parts
        ({"sharedness": 8, "both": False}, 64, True),  # heaps are of sixteen, half of them perturbed
        ({"sharedness": 1}, 64, False),
        ({"sharedness": "batch"}, 64, True),
        ({"sharedness": "mixed"}, 64, True),
        ({"sharedness": "class"}, 64, True),  # Net knows fewer classes than eight
        ({"sharedness": 8, "bank": 4, "steps": 0}, 64, True),  # of which no more than four differ
        ({"sharedness": "batch", "batch_norm": "frozen"}, 64, False),
    ],
)
def test_heaps_that_batch_norm_sees_at_once(settings: dict[str, Any], at_once: int, few: bool) -> None:
    net = Net(norm="batch")
    net.classes = ("a", "b", "c")
    doubts = SharedTraining(**settings).doubts(net, 64, at_once)
    assert any("batch norm" in doubt for doubt in doubts) == few


def test_a_gap_between_the_modes_is_told_at_the_end() -> None:
    made = SharedTraining()
    (said,) = made.hindsight({"train_robust_accuracy": 0.297, "attacked_accuracy": 0.132})
    assert "29.7%" in said
    assert "13.2%" in said
    for learnt, used in ((0.3, 0.26), (0.2, 0.5), (0.5, float("nan"))):
        assert not made.hindsight({"train_robust_accuracy": learnt, "attacked_accuracy": used})
    assert not made.hindsight({"train_robust_accuracy": 0.9})
