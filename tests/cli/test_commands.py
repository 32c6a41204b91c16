"""The commands from end to end, on toys: what they leave, what they print, and what they read back."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

import vallum
from command_line import Said, command
from vallum.cli.table import print_rates, print_run
from vallum.evaluation import Run
from vallum.evaluation.sections import Rates
from vallum.models import load_model, save_model

SUMMARY = ["model", "threat", "surface", "metric", "value", "low", "high", "n", "forwards", "backwards", "seconds"]
THREATS = ("--threat", "gaussian:std=0.1", "--threat", "pgd:eps=4/255,steps=2")
NETS = """
import torch
from torch import nn

def two(gain=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with torch.no_grad():
        net[1].weight.mul_(gain)
    return net

def blind():
    return nn.Sequential(two(), nn.Threshold(1e9, 0.0))
"""


OWN = """
import vallum
from nets import two
from vallum.defences import Defence

class Dimmed(Defence):
    randomised = stateful = False
    exact_gradient = True
    def purify(self, images): return images * 0.9

def dimmed():
    return Dimmed(vallum.load_model(two(), mean=0.4, std=0.3))

def takes(mean=0):
    raise vallum.errors.UserError(f"{mean} came as an argument")
"""


BROKEN = """
from torch import nn

def boom():
    raise RuntimeError("no weights here")

class Forgetful(nn.Module):
    def forward(self, images):
        return {}["pixels"]

def forgetful():
    return Forgetful()

def attack(model, images, labels):
    model(images)
    raise ValueError("oops")
"""


def evaluate(*arguments: object, workers: int = 1) -> Said:
    return command("evaluate", *arguments, "--workers", workers)


def photos(folder: Path) -> Path:
    draws = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(draws.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A run of an untrained net on sixteen signs, and what the command printed."""
    at = tmp_path_factory.mktemp("signs")
    torch.manual_seed(0)
    save_model(load_model("net:resnet?classes=43"), at / "net")
    said = evaluate(f"plain={at / 'net'}", "--data", "builtin:signs", "-n", 16, *THREATS, "--out", at / "run")
    assert said.code == 0, said.err
    return at, said


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos and code, which the command runs in."""
    photos(tmp_path / "photos")
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_leaves_what_the_documents_promise(signs: tuple[Path, Said]) -> None:
    out, said = signs[0] / "run", signs[1].out
    assert {path.name for path in out.iterdir()} == {
        "cells", "pictures", "plan.json", "summary.json", "comparisons.json", "environment.json", "report.html",
    }  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert [list(row) for row in summary] == [SUMMARY] * 4
    assert {row["threat"] for row in summary} == {
        "clean", "gaussian:std=0.1", "pgd:eps=4/255,steps=2", "worst attack",
    }  # fmt: skip
    assert all(row["model"] == "plain" and row["n"] == 16 for row in summary)
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in summary)
    environment = json.loads((out / "environment.json").read_text())
    assert environment["command"].startswith("vallum evaluate plain=")
    assert environment["images left out"] == {}
    assert f"Report: {out / 'report.html'}" in said
    assert "16 images of builtin:signs" in said


def test_the_printed_numbers_are_those_of_the_summary(signs: tuple[Path, Said]) -> None:
    printed = dict(re.findall(r"│ (\S+(?: attack)?) +│ +(.*?) │", signs[1].out))
    for row in json.loads((signs[0] / "run" / "summary.json").read_text()):
        expected = f"{100 * row['value']:.1f}  [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        assert printed[row["threat"]] == expected


def test_the_same_command_finds_everything_done(signs: tuple[Path, Said]) -> None:
    at = signs[0]
    made = {path: path.stat().st_mtime_ns for path in (at / "run" / "cells").iterdir()}
    arguments = (f"plain={at / 'net'}", "--data", "builtin:signs", "-n", 16, *THREATS, "--out", at / "run")
    again = evaluate(*arguments)
    assert "3 of 3 cells are done already" in again.err
    assert again.out == signs[1].out
    assert {path: path.stat().st_mtime_ns for path in (at / "run" / "cells").iterdir()} == made


def test_results_read_back_the_summary(signs: tuple[Path, Said]) -> None:
    run = signs[0] / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert command("results", run).out in signs[1].out
    assert json.loads(command("results", run, "--format", "json").out) == summary
    read = list(csv.DictReader(io.StringIO(command("results", run, "--format", "csv").out)))
    assert read == [{name: str(value) for name, value in row.items()} for row in summary]


def test_results_answer_in_sql(signs: tuple[Path, Said]) -> None:
    run = signs[0] / "run"
    sql = "SELECT threat, count(*) AS n, avg(accuracy) AS rate FROM rows GROUP BY threat ORDER BY threat"
    expected = {(row["threat"], row["n"], row["value"]) for row in Run(run).summary if row["threat"] != "worst attack"}
    found = json.loads(command("results", run, "--sql", sql, "--format", "json").out)
    assert {tuple(row.values()) for row in found} == expected
    read = list(csv.reader(io.StringIO(command("results", run, "--sql", sql, "--format", "csv").out)))
    assert read == [["threat", "n", "rate"], *(list(map(str, row.values())) for row in found)]
    table = command("results", run, "--sql", sql).out
    assert all(f" {row['threat']} " in table for row in found)
    first = "SELECT NULL AS nothing, key FROM rows ORDER BY key LIMIT 1"
    key = Run(run).plan.images[0]
    assert command("results", run, "--sql", first, "--format", "csv").out == f"nothing,key\n,{key}\n"


@pytest.mark.parametrize("sql", ["suggested", "SELECT * FROM rows LIMIT 5"])
def test_rows_can_be_read_at_eighty_columns(
    signs: tuple[Path, Said], sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table where it fits, else a row at a time: no name and no number is cut off."""
    monkeypatch.setenv("COLUMNS", "80")
    run = signs[0] / "run"
    if sql == "suggested":
        line = next(line for line in signs[1].out.splitlines() if line.startswith("Rows:"))
        arguments = shlex.split(line.removeprefix("Rows:"))[1:]
        sql = arguments[-1]
        assert arguments == ["results", str(run), "--sql", sql]
    shown = command("results", run, "--sql", sql).out
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    columns, rows = Run(run).fetch(sql)
    words = shown.split()
    for place, name in enumerate(columns):
        there = [row[place] for row in rows if row[place] is not None]
        assert name in words or f"{name}," in words
        for value in there:
            assert (f"{value:.6g}" if isinstance(value, float) else str(value)) in words
    empty = [name for place, name in enumerate(columns) if all(row[place] is None for row in rows)]
    assert (f"without a value in these rows: {', '.join(empty)}" in " ".join(words)) == bool(empty)
    assert ("┃" in shown) == (len(columns) < 10)
    none = command("results", run, "--sql", f"SELECT * FROM ({sql}) WHERE key < 0").out
    assert none.startswith("no row is like that; the columns: ")


def test_the_report_can_be_written_elsewhere(signs: tuple[Path, Said], tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    assert command("report", signs[0] / "run", "--out", page).out == f"{page}\n"
    assert page.read_text("utf-8") == (signs[0] / "run" / "report.html").read_text("utf-8")
    (signs[0] / "run" / "report.html").unlink()
    assert command("report", signs[0] / "run").code == 0
    assert page.read_text("utf-8") == (signs[0] / "run" / "report.html").read_text("utf-8")


def test_quiet_prints_nothing(here: Path) -> None:
    said = evaluate("nets.py:two", "--data", "photos", "--threat", "gaussian:std=0.1", "--out", "run", "--quiet")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert (here / "run" / "report.html").is_file()


def test_models_bear_the_names_that_they_are_given(here: Path) -> None:
    (here / "a=b").mkdir()
    shutil.copy("nets.py", here / "a=b")
    given = ["v1.0=nets.py:two", "nets.py:two?gain=2", "strong=nets.py:two?gain=-3", "./a=b/nets.py:two"]
    said = evaluate(*given, "--data", "photos", "--threat", "gaussian:std=0.1", "--out", "run")
    assert said.code == 0, said.err
    names = [model.name for model in Run(here / "run").plan.models]
    assert names == ["v1.0", "nets.py:two?gain=2", "strong", "./a=b/nets.py:two"]
    assert len(json.loads((here / "run" / "comparisons.json").read_text())) == 2 * 6


def test_normalisation_and_size_reach_model_and_data(here: Path) -> None:
    options = ("--mean", "0.5,0.4,1/3", "--std", "0.25", "--size", "8x8")
    said = evaluate("nets.py:two", "--data", "photos", "--threat", "gaussian:std=0.1", "--out", "run", *options)
    assert said.code == 0, said.err
    data = vallum.load_data("photos")
    images, labels = data.batch(range(8)).images, data.batch(range(8)).labels
    mean = torch.tensor([0.5, 0.4, 1 / 3]).view(1, 3, 1, 1)
    spec: dict[str, Any] = {}
    exec(NETS, spec)
    expected = float((spec["two"]()((images - mean) / 0.25).argmax(1) == labels).float().mean())
    assert Run(here / "run").summary[0]["value"] == pytest.approx(expected)
    assert Run(here / "run").plan.data == "folder:photos?size=8"


def test_what_is_left_out_is_counted_and_named(here: Path) -> None:
    (here / "photos" / "cat" / "1.png").write_text("no picture")
    (here / "photos" / "empty").mkdir()
    (here / "nets.py").write_text(NETS.replace("192, 2", "192, 3"))
    arguments = ("nets.py:two", "--data", "photos", "--threat", "gaussian:std=0.1", "--out", "run")
    evaluate(*arguments).refuses("photos/empty holds no pictures")
    said = evaluate(*arguments, "--on-error", "skip", "--batch-size", 3)
    assert said.code == 0, said.err
    assert "2 left out" in said.out
    assert "7 images of folder:photos?on_error=skip" in said.out
    run = Run(here / "run")
    assert {row["n"] for row in run.summary} == {7}
    assert set(run.left_out) == {"cat/1.png", "empty"}
    assert json.loads((here / "run" / "environment.json").read_text())["images left out"] == run.left_out
    page = (here / "run" / "report.html").read_text("utf-8")
    assert "7 images of" in page
    assert "2 left out" in page
    assert "cat/1.png" in page
    assert "empty holds no pictures" in page
    together = evaluate(*arguments[:-1], "two", "--on-error", "skip", "--batch-size", 3, workers=2)
    assert together.code == 0, together.err
    assert Run(here / "two").left_out == run.left_out


def test_a_normalisation_is_for_the_models_that_bring_none(here: Path) -> None:
    (here / "own.py").write_text(OWN)
    how = ("--data", "photos", "--threat", "gaussian:std=0.1", "--mean", "0.5", "--std", "0.25")
    said = evaluate("own.py:dimmed", "given=nets.py:two", *how, "--out", "mixed")
    assert said.code == 0, said.err
    assert "--mean and --std are not applied to own.py:dimmed, which brings its own normalisation" in said.out
    said = evaluate("said=nets.py:two?mean=0.5&std=0.25&gain=1", "bare=nets.py:two", *how[:4], "--out", "single")
    assert said.code == 0, said.err
    marks = {one.name: one.fingerprint for run in ("mixed", "single") for one in Run(here / run).plan.models}
    assert marks["given"] == marks["said"] != marks["bare"]
    evaluate("own.py:dimmed", "other=own.py:dimmed", *how).refuses("own.py:dimmed: mean=[0.5] is given for a Dimmed")
    evaluate("nets.py:two?mean=123", *how[:4]).refuses("mean=[123.0] is in units of 0..255")
    evaluate("own.py:takes?mean=3", *how[:4]).refuses("3 came as an argument")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_goes_wrong_in_code_of_the_users_is_said_in_a_line(here: Path, workers: int) -> None:
    def says(*arguments: object) -> str:
        said = evaluate(*arguments, "--data", "photos", "--out", "run", "--batch-size", 4, workers=workers)
        assert said.code == 2, said.err
        last = said.err.strip().splitlines()[-1]  # after the bar
        assert "Traceback" not in said.err
        return last

    (here / "own.py").write_text(BROKEN)
    (here / "syntax.py").write_text("def build():\n    return (\n")
    (here / "needy.py").write_text("\nimport no_such_package_anywhere\n")
    place = f"vallum: {here}/"
    assert says("own.py:boom") == f"{place}own.py, line 5, in boom: RuntimeError: no weights here"
    assert says("syntax.py:build").startswith(f"{place}syntax.py, line 2: SyntaxError: ")
    assert "needy.py, line 2, in <module>: ModuleNotFoundError: No module" in says("needy.py:build")
    assert "needy.py, line 2, in <module>: ModuleNotFoundError: No module" in says("needy:build")
    assert "own.py, line 9, in forward: KeyError: 'pixels'" in says("own.py:forgetful")
    if workers == 2:  # a pool takes seconds to start
        assert "own.py, line 16, in attack: ValueError: oops" in says("nets.py:two", "--threat", "own:own.py:attack")


def test_doubts_about_a_model_are_printed(here: Path) -> None:
    said = evaluate("nets.py:blind", "--data", "photos", "--threat", "pgd:eps=4/255,steps=2", "--out", "run")
    assert said.code == 0, said.err
    assert "the gradient is exactly zero everywhere for 8 of 8 images" in " ".join(said.out.split())
    assert "the gradient is exactly zero everywhere" in (here / "run" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_table_fits_eighty_columns(tmp_path: Path, count: int) -> None:
    """Long names are broken, numbers are not, and nothing is cut off."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()
    data = torch.rand(8, 3, 8, 8), torch.arange(8) % 2
    models = {f"builtin:signs_resnet_robust_{i}": net for i in range(count)}
    run = vallum.evaluate(models, data, ["random_search:eps=8/255,queries=2"], out=tmp_path, progress=False)
    out = io.StringIO()
    print_run(run, Console(file=out, width=80))
    shown = out.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    for row in run.summary:
        assert f" {100 * row['value']:.1f} " in shown
        assert f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in shown
    assert " ".join(shown.split()).count("points, p = 1") == count * (count - 1) // 2


def test_a_table_of_rates_has_each_interval_beneath_its_rate() -> None:
    out = io.StringIO()
    one = Rates(
        "held against each other", "model", ("net",), ("own", "none"), ((0.5, None),), ((0.4, None),), ((0.6, None),)
    )
    print_rates([one], Console(file=out, width=60))
    lines = [line.strip("│┃ ") for line in out.getvalue().splitlines()]
    row = next(place for place, line in enumerate(lines) if line.startswith("own"))
    assert lines[row].endswith("50.0")
    assert lines[row + 1] == "[40.0, 60.0]"
    assert "\\n" not in out.getvalue()
