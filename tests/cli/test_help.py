"""What --help shows, and how little has to be imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from command_line import command
from vallum import __version__
from vallum.cli import app
from vallum.cli.patch import COMMANDS as PATCH_COMMANDS
from vallum.data import CLIP_SOURCES, DATA_SOURCES
from vallum.defences import RECIPES
from vallum.defences.defensive_patches.settings import Settings as PatchSettings
from vallum.defences.self_supervision import TASKS
from vallum.models import MODEL_SOURCES, builtin_names
from vallum.specs import parameters
from vallum.threats import THREATS
from vallum.training.settings import Settings

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
HEAVY = (
    "torch", "torchvision", "timm", "lightning_fabric", "duckdb", "scipy", "numpy", "PIL", "jinja2", "rich.progress",
    "segmentation_models_pytorch", "safetensors",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_the_help_of_all_shows_every_command_and_how_to_begin() -> None:
    said = command("--help")
    assert said.code == 0
    expected = "evaluate train harden tune certify audit report results list doctor patch"
    assert set(COMMANDS) == set(expected.split())
    assert all(f" {name} " in said.out for name in COMMANDS)
    assert "vallum evaluate builtin:signs_resnet -n 500 --out runs/first" in said.out
    assert command("-h").out == said.out
    assert command("--version").out == f"vallum {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_shows_examples_and_options(name: str) -> None:
    said = command(name, "--help")
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines()]
    examples = [line for line in lines if line.startswith(f"vallum {name}")]
    assert examples, said.out
    options = [option for one in COMMANDS[name].params for option in one.opts if option.startswith("--")]
    assert all(f"{option} " in said.out for option in options)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_fit_a_narrow_terminal(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that the terminal breaks cannot be copied."""
    monkeypatch.setenv("COLUMNS", "80")
    wide = [line.rstrip() for line in (COMMANDS[name].help or "").splitlines() if line.startswith(("vallum", "    --"))]
    said = command(name, "--help").out
    assert all(f" {line.strip()}" in said for line in wide)


@pytest.mark.parametrize(
    ("name", "settings"), [("train", Settings), ("harden", Settings), ("patch make", PatchSettings)]
)
def test_every_setting_has_its_option(name: str, settings: type) -> None:
    said = command(*name.split(), "--help").out
    for setting in parameters(settings):
        assert f"--{setting.name.replace('_', '-')} " in said
        assert setting.help.split(",")[0] in said


@pytest.mark.parametrize("name", PATCH_COMMANDS)
def test_the_help_of_each_patch_command_shows_an_example(name: str) -> None:
    said = command("patch", name, "--help")
    assert said.code == 0
    assert f"vallum patch {name} " in said.out
    assert f" {name} " in command("patch", "--help").out


def test_help_imports_nothing_heavy() -> None:
    look = (
        "import sys, vallum.cli\n"
        "try: vallum.cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert found.stderr == "[]\n"
    assert "Usage: " in found.stdout


def test_reading_a_run_does_not_import_torch() -> None:
    look = "import sys, vallum.evaluation.run, vallum.report, vallum.cli.table; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout == "False\n"


def test_the_list_shows_everything_with_its_parameters() -> None:
    said = command("list").out
    flat = " ".join(said.split())
    for registry in (THREATS, RECIPES, TASKS):
        for name in registry:
            assert f" {name} " in said
            for one in parameters(registry[name]):
                assert f"{one}  {one.help}".split(";")[0].split(":")[0].split(",")[0] in said, (name, one)
    for name in (*MODEL_SOURCES, *DATA_SOURCES):
        assert f" {name}: " in said
    for sources in (DATA_SOURCES, CLIP_SOURCES):
        for name in sources:
            for option, what in sources.options[name].items():
                assert f"?{option}=" in said, (name, option)
                assert what.split()[0] in said
    assert "?classes=" in said
    assert all(f" builtin:{name} " in flat for name in builtin_names())
    assert {title for title in ("models", "data", "threats", "defences") if f"{title} " in said} == {
        "models", "data", "threats", "defences",
    }  # fmt: skip


def test_one_kind_can_be_listed() -> None:
    said = command("list", "threats").out
    assert " pgd " in said
    assert "folder:" not in said


def test_the_doctor_looks_at_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    said = command("doctor")
    assert said.code == 0, said.out
    for part in (
        "vallum",
        __version__,
        "Python",
        "torch",
        "duckdb",
        "torchvision imports",
        "cores",
        "GPUs",
        "extra hf",
    ):
        assert part in said.out
    monkeypatch.setattr("vallum.cli.doctor.PACKAGES", ("torch", "no-such-package"))
    said = command("doctor")
    assert said.code == 1
    assert "pip install no-such-package" in said.out


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vallum.cli.listing._entries", interrupt)
    said = command("list")
    assert said.code == 130
    assert said.err == "vallum: interrupted; what was finished is kept, the same command goes on from there\n"
