"""`vallum patch evaluate` on toys: what it prints, what it leaves, and several values after one option."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import command
from vallum.cli.patch import Listing
from vallum.defences.defensive_patches import PatchSet, Ring
from vallum.models import load_model, save_model

SIZE, CLASSES = 12, ("a", "b", "c")


@pytest.fixture
def toys(tmp_path: Path) -> Path:
    """Two nets that nobody trained, patches that nobody made, and images."""
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_model(load_model("net:resnet", classes=CLASSES), tmp_path / f"net{seed}")
    mask = Ring(outer=10, inner=6).mask(SIZE, SIZE)
    PatchSet(torch.rand(3, 3, SIZE, SIZE), mask, CLASSES, (SIZE, SIZE)).save(tmp_path / "patches")
    images = np.random.default_rng(0).random((12, SIZE, SIZE, 3), np.float32)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(12) % 3, classes=np.array(CLASSES))
    return tmp_path


def test_it_leads_with_selectivity_and_leaves_a_report(toys: Path) -> None:
    said = command(
        "patch", "evaluate", toys / "patches", "--models", toys / "net0", "--held-out", toys / "net1",
        "--data", f"npz:{toys / 'images.npz'}", "--out", toys / "run", "-n", 9, "--few", 3, "--radii", "1",
        "--attack", "pgd:eps=8/255,steps=1", "--corruption", "fog:3", "--marker", "none", "--no-each-patch",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "selectivity" in next(line for line in said.out.splitlines() if line.startswith("│"))
    assert "net1 (held out): selectivity" in said.out
    assert (toys / "run" / "report.html").is_file()
    assert json.loads((toys / "run" / "patches.json").read_text())["held out"] == ["net1"]
    assert "Defensive patches under corruptions" in command("report", toys / "run", "--format", "markdown").out


def test_mistakes_are_answered(toys: Path) -> None:
    given = ["patch", "evaluate", toys / "patches", "--models", toys / "net0", "--data", f"npz:{toys / 'images.npz'}"]
    command(*given, "--out", toys / "run", "--beside", "folder").refuses("a name and a folder")
    command(*given, "--out", toys / "run", "--held-out", toys / "net0").refuses("and as held out")
    assert command(*given).code == 2  # without --out


def test_several_values_follow_one_option() -> None:
    import typer

    kept: dict[str, object] = {}
    one = typer.Typer()

    @one.command("x", cls=Listing)
    def x(folder: str, models: list[str] = typer.Option([]), many: list[str] = typer.Option([]), n: int = 1) -> None:  # noqa: B008
        kept.update(folder=folder, models=models, many=many, n=n)

    def parsed(*words: str) -> dict[str, object]:
        kept.clear()
        typer.main.get_command(one)(list(words), standalone_mode=False)
        return dict(kept)

    wanted = {"folder": "F", "models": ["A", "B"], "many": ["C", "D", "E"], "n": 3}
    assert parsed("F", "--models", "A", "B", "--many", "C", "D", "E", "--n", "3") == wanted
    assert parsed("F", "--models", "A", "--many", "C", "--many", "D", "E", "--models", "B", "--n", "3") == wanted
    assert parsed("--n", "3", "F", "--models", "A", "B", "--many", "C", "D", "E") == wanted
