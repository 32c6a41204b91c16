"""Killed at any moment and started again with the same command, a run ends with bitwise the same rows."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vallum.evaluation.run import Run
from vallum.models import load_model, save_model


def command(model: Path, out: Path, workers: int) -> list[str]:
    return [
        *(sys.executable, "-m", "vallum", "evaluate", str(model), "--data", "builtin:signs", "--out", str(out)),
        *("-n", "60", "--batch-size", "6", "--workers", str(workers), "--quiet"),
        *("--threat", "gaussian:std=0.1", "--threat", "pgd:eps=4/255,steps=10"),
    ]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def done(out: Path) -> int:
    return len(list((out / "cells").glob("*.parquet")))


def rows(out: Path) -> list[tuple]:
    return Run(out).query("SELECT * FROM rows ORDER BY model, threat, surface, key").fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_again_and_again(tmp_path: Path, workers: int) -> None:
    """SIGKILL to the whole process group, each time after a few more cells, some in the middle of a write."""
    model = tmp_path / "net"
    save_model(load_model("net:resnet?classes=43"), model)
    whole = start(command(model, tmp_path / "whole", workers))
    assert whole.wait() == 0, whole.stdout.read().decode()

    out, kills, cells = tmp_path / "killed", 0, 30
    while True:
        process = start(command(model, out, workers))
        goal = min(done(out) + 3, cells)
        while process.poll() is None and done(out) < goal:
            time.sleep(0.002)
        if process.poll() is None and goal < cells:
            time.sleep(0.013 * (kills % 5))
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, process.stdout.read().decode()
    assert kills >= 4
    assert rows(out) == rows(tmp_path / "whole")
    print(f"{kills} kills, {len(rows(out))} rows the same")


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """One of two workers is killed while the run goes on: the run ends as if nothing had been."""
    model = tmp_path / "net"
    save_model(load_model("net:resnet?classes=43"), model)
    process = start(command(model, tmp_path / "out", 2))
    while process.poll() is None and done(tmp_path / "out") < 2:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    workers = [
        pid for pid in children.read_text().split() if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(int(workers[-1]), signal.SIGKILL)
    assert process.wait() == 0, process.stdout.read().decode()
    assert done(tmp_path / "out") == 30
    assert len(rows(tmp_path / "out")) == 180
