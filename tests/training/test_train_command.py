"""The commands are a thin face: every setting is an option, and what they say reaches the loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import vallum
from vallum.cli import train as commands
from vallum.errors import UserError
from vallum.models import model_fingerprint, weights_fingerprint
from vallum.specs import parameters
from vallum.training import Settings

DATA = "builtin:signs?n=60&split=train&size=16"


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(commands.train)
    app.command()(commands.harden)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", ["train", "harden"])
def test_every_setting_is_an_option_with_its_help(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    said = run(command, "--help")
    for setting in parameters(Settings):
        assert f"--{setting.name.replace('_', '-')} " in said
        assert setting.help[:30] in said


def test_train_then_harden(tmp_path: Path) -> None:
    how = ("--epochs", 1, "--batch-size", 16, "--device", "cpu", "--data", DATA, "--quiet")
    run("train", "net:resnet", *how, "--out", tmp_path / "plain", "--lr", "1/50", "--flip", "--average", 0.5)
    run("harden", tmp_path / "plain", *how, "--out", tmp_path / "robust", "--with", "adversarial:eps=2/255,steps=1")
    first, second = (
        json.loads((tmp_path / name / "vallum.json").read_text())["extra"]["training"] for name in ("plain", "robust")
    )
    assert first["recipe"] == "plain"
    assert first["settings"] | {"lr": 0.02, "flip": True, "average": 0.5} == first["settings"]
    assert second["recipe"] == "adversarial:eps=2/255,steps=1"
    assert second["data"]["images"] == 54


def test_validation_is_a_share_or_data(tmp_path: Path) -> None:
    how = ("--epochs", 1, "--device", "cpu", "--data", DATA, "--quiet")
    run("train", "net:resnet", *how, "--out", tmp_path / "share", "--validation", "1/3")
    run("train", "net:resnet", *how, "--out", tmp_path / "data", "--validation", "builtin:signs?n=20&size=16")
    share, data = (
        json.loads((tmp_path / name / "vallum.json").read_text())["extra"]["training"] for name in ("share", "data")
    )
    assert (share["data"]["images"], share["validation"]["images"]) == (40, 20)
    assert (data["data"]["images"], data["validation"]["images"]) == (60, 20)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--optimizer", "adam"], "--optimizer is 'adam': one of sgd, adamw"),
        (["--lr", "fast"], "--lr is 'fast': a number"),
        (["--recipe", "plain:smoothing=1"], "no parameter 'smoothing'"),
        (["--epochs", "0"], "epochs=0"),
    ],
)
def test_mistakes(options: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        run("train", "net:resnet", "--data", DATA, "--out", tmp_path, *options)


def test_harden_ends_with_a_short_evaluation_of_images_it_did_not_learn_from(tmp_path: Path) -> None:
    how = ("--epochs", 1, "--batch-size", 16, "--device", "cpu", "--data", DATA, "--validation", 0.3)
    with_ = ("--with", "shared_training:eps=4/255,sharedness=8,steps=1")
    said = run("harden", "net:resnet", *how, *with_, "--out", tmp_path / "one", "--evaluate", 8)
    assert "universal:eps=4/255,steps=48" in said
    found = json.loads((tmp_path / "one" / "evaluation" / "summary.json").read_text())
    assert {row["threat"] for row in found} >= {"clean", "pgd:eps=4/255,steps=20", "universal:eps=4/255,steps=48"}
    assert {row["n"] for row in found} == {8}
    assert "there is no column `before`" in said
    said = run("harden", "net:resnet", *how, *with_, "--out", tmp_path / "two", "--evaluate", 0)
    assert "universal" not in said
    assert not (tmp_path / "two" / "evaluation").exists()
    with pytest.raises(UserError, match="0 or more"):
        run("harden", "net:resnet", *how, *with_, "--out", tmp_path / "three", "--evaluate", -1)


def test_harden_measures_what_it_started_from_beside_what_it_made(tmp_path: Path) -> None:
    how = ("--epochs", 1, "--batch-size", 16, "--device", "cpu", "--data", DATA, "--validation", 0.3, "--evaluate", 16)
    start = vallum.load_model("builtin:signs_resnet")
    with_ = ("--with", "adversarial:eps=2/255,steps=1", "--lr", 0.02)
    said = run("harden", "builtin:signs_resnet", *how, *with_, "--out", tmp_path / "one")
    said = " ".join(said.split())
    assert "9 of the 18 held-out images were evaluated, and not 16: on the others the universal" in said
    made = vallum.evaluation.Run(tmp_path / "one" / "evaluation")
    assert [one.name for one in made.plan.models] == ["before", "hardened"]
    assert made.plan.models[0].fingerprint == model_fingerprint(start) != made.plan.models[1].fingerprint
    assert {(pair["first"], pair["second"]) for pair in made.comparisons} == {("before", "hardened")}


def test_harden_attacks_defences_whose_recipe_has_no_radius(tmp_path: Path) -> None:
    how = ("--epochs", 1, "--batch-size", 16, "--device", "cpu", "--data", DATA, "--validation", 0.3, "--evaluate", 4)
    with_ = ("--with", "self_supervision:tasks=rotation,steps=1")
    said = run("harden", "builtin:signs_resnet", *how, *with_, "--out", tmp_path / "one")
    said = " ".join(said.split())
    assert "the recipe has no radius of its own: attacks have 4/255" in said
    assert "no universal attack was run" in said
    found = json.loads((tmp_path / "one" / "evaluation" / "summary.json").read_text())
    assert {row["threat"] for row in found} >= {"clean", "pgd:eps=4/255,steps=10", "worst attack"}
    assert {row["model"] for row in found} == {"before", "hardened"}  # whose weights are those beneath the defence
    few = (*how[:-2], "--validation", 0.1, *with_)
    said = run("harden", "builtin:signs_resnet", *few, "--out", tmp_path / "two")
    assert "No evaluation: 6 images are held out, 8 are needed" in said


def test_harden_is_train_with_a_recipe_that_is_said(tmp_path: Path) -> None:
    spec = "shared_training:eps=4/255,sharedness=8,steps=1"
    how = {"epochs": 1, "batch_size": 16, "quiet": True}
    one = vallum.harden("net:resnet", DATA, spec, out=tmp_path / "one", **how)
    other = vallum.train("net:resnet", DATA, spec, out=tmp_path / "other", **how)
    assert weights_fingerprint(one) == weights_fingerprint(other)


@pytest.mark.parametrize(
    ("given", "words", "learnt"),
    [
        ({"data": "folder:photos/train", "size": "32"}, "--data folder:photos/train --size 32", True),
        ({"data": "folder:photos/train", "validation": "folder:photos/val"}, "--data folder:photos/val", False),
        ({"data": "builtin:signs?split=train&n=60", "validation": "1/3"}, "", False),
        ({"data": "builtin:streets?split=train&size=64x192"}, "--data builtin:streets?size=64x192", False),
        ({"data": "folder:scenes", "task": "segment"}, "--data folder:scenes --task segment", True),
    ],
)
def test_the_next_command_names_images_that_the_model_is_for(given: dict[str, str], words: str, learnt: bool) -> None:
    unsaid = {"validation": "0.1", "size": None, "task": None}
    assert commands._images({**unsaid, **given}) == (words.split(), learnt)
