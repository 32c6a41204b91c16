"""A run on disk under trouble: what is spoilt is named and computed anew, and what was finished is never lost."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
import torch
from torch import nn

import vallum
from command_line import command
from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.evaluation import Run
from vallum.evaluation.store import Finished, Store, explained
from vallum.report import write_report

ORDERED = "SELECT * FROM rows ORDER BY model, threat, key"


def evaluated(out: Path, **options: Any) -> Run:
    """Twelve images in batches of four under two threats and clean: nine cells."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()
    data = torch.rand(12, 3, 4, 4), torch.arange(12) % 3
    threats = ["gaussian:std=0.1", "uniform:width=0.1"]
    return vallum.evaluate(net, data, threats, out=out, batch_size=4, progress=False, **options)


def rows(run: Run) -> list[tuple[Any, ...]]:
    return run.fetch(ORDERED)[1]


def cells(out: Path) -> list[Path]:
    return sorted((out / "cells").glob("*.parquet"))


def flip(share: float) -> Callable[[bytes], bytes]:
    def spoil(content: bytes) -> bytes:
        at = int(share * len(content))
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return spoil


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a bit near its start": flip(0.05),
    "a bit in its middle": flip(0.5),
    "a bit near its end": flip(0.95),
    "its second half": lambda content: content[: len(content) // 2],
    "its last byte": lambda content: content[:-1],
    "all of it": lambda content: b"",
    "a byte too many": lambda content: content + b"\n",
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_result_is_named_and_computed_anew(tmp_path: Path, spoilt: str) -> None:
    before = rows(evaluated(tmp_path))
    victim = cells(tmp_path)[4]
    victim.write_bytes(SPOILT[spoilt](victim.read_bytes()))
    command("results", tmp_path).refuses(f"{victim} is damaged; run the same command again: it is computed anew")
    made = {path: path.stat().st_mtime_ns for path in cells(tmp_path) if path != victim}
    assert rows(evaluated(tmp_path)) == before
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())
    assert command("results", tmp_path).code == 0


def test_no_byte_of_a_result_changes_unnoticed(tmp_path: Path) -> None:
    run = evaluated(tmp_path)
    cell = next(run.plan.cells())
    path = run.store.path(cell)
    whole = path.read_bytes()
    assert run.store.is_done(cell)
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        assert not run.store.is_done(cell), at
    path.write_bytes(whole)
    assert run.store.is_done(cell)


def test_names_that_look_like_a_hash_are_names(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run")
    cell = replace(next(run.plan.cells()), pictures=())
    store = Store(tmp_path)
    store.cells.mkdir()
    hostile = "blake2b:" + "0" * 32
    finished = Finished(1, 2, 3.0, {hostile: f"'{hostile}' \x1b[31m"})
    store.write(cell, [{"model": hostile, "threat": "it's", "surface": "x", "key": 2**62, "name": hostile}], finished)
    assert store.is_done(cell)
    assert store.finished([cell]) == {cell.id: finished}
    found = duckdb.sql(f"SELECT model, threat, key FROM '{store.path(cell)}'").fetchall()
    assert found == [(hostile, "it's", 2**62)]


@pytest.mark.parametrize("finished", [0, 1, 5])
def test_a_full_disk_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int) -> None:
    whole = rows(evaluated(tmp_path / "whole"))
    rename, left = Path.replace, [finished]

    def full(self: Path, target: Path) -> Path:
        if target.parent.name == "cells" and target.suffix == ".parquet":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(UserError, match="is full; free some space, and run the same command again") as caught:
            evaluated(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert len(cells(tmp_path / "run")) == finished
    assert [path for path in (tmp_path / "run" / "cells").iterdir() if path.suffix != ".parquet"] == []
    made = {path: path.stat().st_mtime_ns for path in cells(tmp_path / "run")}
    assert rows(evaluated(tmp_path / "run")) == whole
    assert all(path.stat().st_mtime_ns == when for path, when in made.items())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
def test_a_disk_that_is_really_full_is_understood() -> None:
    with pytest.raises(UserError, match="is full"), explained(Path("run")):
        Path("/dev/full").write_text("x" * 10_000)
    with pytest.raises(UserError, match="is full"), explained(Path("run")), duckdb.connect() as connection:
        connection.execute("COPY (SELECT range FROM range(100000)) TO '/dev/full' (FORMAT parquet)")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")

    def fail(beside: Path) -> None:
        beside.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "x", fail)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x": "old"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"models": 3}', b"null"])
def test_a_damaged_plan_is_named_and_can_be_deleted(tmp_path: Path, content: bytes) -> None:
    before = rows(evaluated(tmp_path))
    made = {path: path.stat().st_mtime_ns for path in cells(tmp_path)}
    (tmp_path / "plan.json").write_bytes(content)
    words = f"{tmp_path / 'plan.json'} is damaged"
    command("results", tmp_path).refuses(words)
    with pytest.raises(UserError, match="delete it, and run the same command again: finished cells are kept"):
        evaluated(tmp_path)
    (tmp_path / "plan.json").unlink()
    assert rows(evaluated(tmp_path)) == before
    assert {path: path.stat().st_mtime_ns for path in cells(tmp_path)} == made


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_environment_is_named_and_written_anew(tmp_path: Path, content: bytes) -> None:
    evaluated(tmp_path)
    (tmp_path / "environment.json").write_bytes(content)
    command("report", tmp_path).refuses(f"{tmp_path / 'environment.json'} is damaged")
    assert evaluated(tmp_path).environment["workers"] == 1


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    whole = evaluated(tmp_path)
    assert whole.unfinished == 0
    for path in cells(tmp_path)[:2]:
        path.unlink()
    assert Run(tmp_path).unfinished == 2
    assert "2 cells are not finished" in command("results", tmp_path).out
    assert "2 cells are not finished" in write_report(Run(tmp_path)).read_text("utf-8")
    for path in cells(tmp_path):
        path.unlink()
    empty = Run(tmp_path)
    assert (empty.unfinished, empty.summary, empty.measured) == (9, [], 0)
    assert "9 cells are not finished" in command("results", tmp_path).out


def test_the_folder_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    before = rows(evaluated(tmp_path))
    for change in ({"seed": 1}, {"n": 6}):
        with pytest.raises(UserError, match="holds a run with other"):
            evaluated(tmp_path, **change)
    assert rows(Run(tmp_path)) == before
    assert json.loads((tmp_path / "plan.json").read_text())["seed"] == 0
