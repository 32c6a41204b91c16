"""Killed at any moment and started again, a training ends with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training_toys import Dots, Interrupted, Net, Shared

from vallum.errors import UserError
from vallum.models import weights_fingerprint
from vallum.training import train

# Dropout, batch statistics, momentum, an average and a step count: whatever has a state of its own.
PLAN: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "checkpoint_every": 2,
    "show_every": 3,
    "average": 0.9,
    "optimizer": "adamw",
    "quiet": True,
    "validation": 0.2,
}


def net() -> Net:
    return Net(norm="batch", dropout=0.3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return weights_fingerprint(train(net(), Dots(), Interrupted(), out=tmp_path_factory.mktemp("whole"), **PLAN))


@pytest.mark.parametrize("fails", range(12))
def test_interrupted_before_any_step_it_ends_the_same(fails: int, uninterrupted: str, tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        train(net(), Dots(), Interrupted(fails=fails), out=tmp_path, **PLAN)
    torch.manual_seed(fails)  # what the caller does in between has no say
    resumed = train(net(), Dots(), Interrupted(), out=tmp_path, **PLAN)
    assert weights_fingerprint(resumed) == uninterrupted


def test_killed_process_ends_the_same(uninterrupted: str, tmp_path: Path) -> None:
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_resume import *\n"
        f"train(net(), Dots(slow=0.05), Interrupted(), out={str(tmp_path)!r}, **PLAN, cache=0)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    checkpoint, deadline = tmp_path / "checkpoint.pt", time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "weights.safetensors").exists()
    (tmp_path / ".checkpoint.pt.1").write_bytes(b"half of a che")  # as a kill while it is written leaves
    resumed = train(net(), Dots(), Interrupted(), out=tmp_path, **PLAN)
    assert weights_fingerprint(resumed) == uninterrupted
    assert not list(tmp_path.glob(".*"))


def test_what_a_recipe_keeps_is_resumed(tmp_path: Path) -> None:
    plan = {**PLAN, "epochs": 2, "average": 0.0}
    whole = train(net(), Dots(), Shared(), out=tmp_path / "whole", **plan)

    class Failing(Shared):
        def step(self, model: Any, batch: Any, context: Any) -> Any:
            if context.step == 5:
                raise InterruptedError
            return super().step(model, batch, context)

    with pytest.raises(InterruptedError):
        train(net(), Dots(), Failing(), out=tmp_path / "cut", **plan)
    resumed = train(net(), Dots(), Shared(), out=tmp_path / "cut", **plan)
    assert weights_fingerprint(resumed) == weights_fingerprint(whole)
    banks = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["state"]["companion"]
        for name in ("whole", "cut")
    ]
    assert banks[0]["perturbation"].abs().max() > 0
    assert all(torch.equal(banks[0][name], banks[1][name]) for name in banks[0])


def test_log_of_a_resumed_run_has_each_epoch_once(tmp_path: Path) -> None:
    train(net(), Dots(), Interrupted(), out=tmp_path / "whole", **PLAN)
    with pytest.raises(InterruptedError):
        train(net(), Dots(), Interrupted(fails=10), out=tmp_path / "cut", **PLAN)
    train(net(), Dots(), Interrupted(), out=tmp_path / "cut", **PLAN)

    def rows(name: str) -> list[list[str]]:
        lines = (tmp_path / name / "log.csv").read_text().splitlines()
        return [line.split(",")[:-2] for line in lines]  # without speed and seconds

    assert rows("cut") == rows("whole")
    assert [row[0] for row in rows("cut")] == ["epoch", "1", "2", "3"]


def test_a_finished_run_gives_its_weights_again(uninterrupted: str, tmp_path: Path) -> None:
    for _ in range(2):
        model = train(net(), Dots(), Interrupted(), out=tmp_path, **PLAN)
        assert weights_fingerprint(model) == uninterrupted


def test_other_settings_are_refused_with_a_remedy(tmp_path: Path) -> None:
    train(net(), Dots(), out=tmp_path, **{**PLAN, "epochs": 1})
    other = tmp_path / "checkpoint.pt"
    before = other.read_bytes()
    for change, said in (
        ({"epochs": 2}, "epochs was 1, now 2"),
        ({"epochs": 1, "lr": 0.5}, "lr was None, now 0.5"),
        ({"epochs": 1, "validation": 0.5}, "validation was 0.2, now 0.5"),
    ):
        with pytest.raises(UserError, match=f"{said}.*--fresh"):
            train(net(), Dots(), out=tmp_path, **{**PLAN, **change})
    with pytest.raises(UserError, match="data was"):
        train(net(), Dots(n=44), out=tmp_path, **{**PLAN, "epochs": 1})
    with pytest.raises(UserError, match="recipe was 'plain'"):
        train(net(), Dots(), "plain:label_smoothing=0.1", out=tmp_path, **{**PLAN, "epochs": 1})
    with pytest.raises(UserError, match="network was"):
        train(Net(), Dots(), out=tmp_path, **{**PLAN, "epochs": 1})
    assert other.read_bytes() == before
    train(net(), Dots(), out=tmp_path, fresh=True, **{**PLAN, "epochs": 2})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02c__builtin__\nprint\n."])
def test_a_damaged_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint.pt is no checkpoint of vallum"):
        train(net(), Dots(), out=tmp_path, **PLAN)
