"""Figures are found by reading the specs, and their SVG holds what they say."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_sections import sections
from torch import nn

import vallum
from command_line import command
from vallum.evaluation import Run
from vallum.evaluation.sections import Frontier, Point, Universal, write
from vallum.images import Task
from vallum.models.model import Wrapped
from vallum.report import write_report
from vallum.report.curves import curves, energies, families, median_snr, severities
from vallum.report.figure import COLOURS, Chart, Dots, Grid, Mark, Series, narrow
from vallum.report.figures import figures
from vallum.report.gallery import gallery
from vallum.report.heatmap import MEAN, heatmaps
from vallum.report.kinds import figure, frontier, spectrum
from vallum.report.scale import CIVIDIS, Scale, shade
from vallum.report.study import studies
from vallum.report.svg import alone, draw
from vallum.report.svg_chart import HEIGHT, width_of
from vallum.report.svg_parts import MARKERS

THREATS = (
    *("gaussian:std=0.1", "gaussian:std=0.3", "gaussian:snr=20", "gaussian:snr=10"),
    *("fog:1", "fog:3", "snow:1", "snow:3", "contrast:3"),
    *("pgd:eps=2/255,steps=2", "pgd:eps=9/255,steps=2", "pgd:eps=0.2,norm=2,steps=2", "pgd:eps=0.6,norm=2,steps=2"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.manual_seed(0)
    nets = {name: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval() for name in ("one_&", "two")}
    data = torch.rand(24, 3, 8, 8), torch.arange(24) % 3
    found = vallum.evaluate(nets, data, THREATS, out=tmp_path_factory.mktemp("run"), pictures=8, progress=False)
    for section in sections():
        write(found.folder, section)
    return found


def test_strengths_of_one_threat_are_one_family() -> None:
    assert [(f.name, f.parameter, [text for _, text, _ in f.members]) for f in families(list(THREATS))] == [
        ("gaussian", "std", ["0.1", "0.3"]),
        ("gaussian", "snr", ["10", "20"]),
        ("fog", "severity", ["1", "3"]),
        ("snow", "severity", ["1", "3"]),
        ("pgd:steps=2", "eps", ["2/255", "9/255"]),
        ("pgd:norm=2,steps=2", "eps", ["0.2", "0.6"]),
    ]
    written = ["fog:1", "pgd:eps=1/255", "fog:3"]
    assert [(f.name, f.parameter) for f in families(written)] == [("fog", "severity")]


def test_each_threat_is_in_one_family_at_most() -> None:
    grid = [f"pgd:eps={eps},steps={steps}" for eps in ("1/255", "2/255") for steps in (5, 50)]
    found = families(grid)
    assert sorted(spec for f in found for _, _, spec in f.members) == sorted(grid)
    assert {f.parameter for f in found} == {"eps"}
    assert families(["pgd:eps=1/255,seed=1", "pgd:eps=1/255,seed=2", "fog:3+jpeg:2", "odd(", "clean"]) == []


def test_curves_hold_the_rates(run: Run) -> None:
    [study] = studies([run])
    for chart in curves(study):
        for series in chart.series:
            for mark in series.marks:
                spec = (
                    mark.label
                    if mark.label == "clean"
                    else next(
                        s
                        for s in study.kinds
                        if mark.label in s
                        and s.startswith(re.split("[: ]", chart.title)[0])
                        and ("norm=2" in s) == ("norm=2" in chart.title)
                    )
                )
                at = study.rates[series.name, spec]
                assert (mark.y, mark.low, mark.high) == (at.value, at.low, at.high)
    assert {chart.title for chart in curves(study)} >= {
        "pgd:steps=2 by eps",
        "pgd:norm=2,steps=2 by eps",
        "gaussian by std",
        "gaussian by snr",
    }


def test_the_heat_map_holds_the_rates_and_their_means(run: Run) -> None:
    [study] = studies([run])
    for grid in heatmaps(study):
        table = {
            name: dict(zip(grid.columns, row, strict=True)) for name, row in zip(grid.rows, grid.values, strict=True)
        }
        fog = [study.rates[grid.title, f"fog:{s}"].value for s in (1, 3)]
        assert table["fog"] == {"1": fog[0], "3": fog[1], MEAN: pytest.approx(np.mean(fog))}
        assert table["contrast"] == {"1": None, "3": study.rates[grid.title, "contrast:3"].value, MEAN: None}
        third = [study.rates[grid.title, f"{name}:3"].value for name in ("fog", "snow", "contrast")]
        assert table[MEAN]["3"] == pytest.approx(np.mean(third))
        assert table[MEAN]["1"] is None
        known = study.rates[grid.title, "fog:1"]
        row = grid.rows.index("fog")
        assert grid.ranges[row] == ((known.low, known.high), *grid.ranges[row][1:2], None)
        assert grid.said(row, 0) == f"{100 * known.value:.1f} [{100 * known.low:.1f}, {100 * known.high:.1f}]"
        assert len(grid.ranges) == len(grid.values)
    mean = severities(study)
    assert mean is not None
    assert mean.title == "mean over 2 corruptions"


def test_noise_and_attack_stand_on_one_axis(run: Run) -> None:
    [study] = studies([run])
    snr = median_snr(study)
    chart = energies(study, snr)
    assert chart is not None
    marks = {(s.name.split(",")[0], m.label): m.x for s in chart.series for m in s.marks}
    rows = run.fetch("SELECT model, threat, l2, snr FROM rows WHERE threat != 'clean'")[1]
    for (model, threat), place in marks.items():
        assert place == pytest.approx(np.median([s for m, t, _, s in rows if (m, t) == (model, threat)]))
    assert marks["two", "gaussian:snr=20"] == pytest.approx(20, abs=1.5)
    assert all(s.marks[0].x >= s.marks[-1].x for s in chart.series)


ONE_MODEL = (
    *("gaussian:snr=20", "gaussian:std=0.3", "salt_pepper:amount=0.05", "apgd:eps=6/255,steps=3", "fgsm:eps=4/255"),
    *("pgd:eps=1/255,steps=2", "pgd:eps=9/255,steps=2", "pgd:eps=0.5,norm=2,steps=2", "fgsm:eps=4/255,norm=2"),
    *("momentum:eps=4/255,steps=2", "random_search:eps=8/255,queries=4"),
)


def test_of_one_model_each_threat_has_a_look_and_a_name_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
    data = torch.rand(24, 3, 8, 8), torch.arange(24) % 3
    run = vallum.evaluate({"net": net}, data, ONE_MODEL, out=tmp_path, progress=False)
    [study] = studies([run])
    chart = energies(study, median_snr(study))
    assert chart is not None
    looks = [(series.colour % len(COLOURS), series.style % MARKERS) for series in chart.series]
    assert len(set(looks)) == len(chart.series) >= 10
    assert len({colour for colour, _ in looks}) == len(COLOURS)
    assert {series.joined for series in chart.series if len(series.marks) == 1} == {False}
    assert {series.joined for series in chart.series if len(series.marks) > 1} == {True}
    assert not any(series.name.startswith("net") for series in chart.series)
    names = {mark.label for series in chart.series for mark in series.marks}
    tree = ET.fromstring(draw(chart))
    boxes = {}
    for one in tree.findall(".//text"):
        if one.text in names:
            left, base = float(one.get("x", "")), float(one.get("y", ""))
            boxes[one.text] = (left, base - 9, left + 6.5 * len(one.text), base)
    assert set(boxes) == names
    for one, other in itertools.combinations(boxes.values(), 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(left >= 0 and right <= width_of(chart) for left, _, right, _ in boxes.values())
    assert not narrow(chart).labelled  # such names do not fit on a phone


def test_a_name_lies_rather_over_a_line_than_over_a_name() -> None:
    def series(name: str, first: float, second: float) -> Series:
        marks = (Mark(13, first, first - 0.03, first + 0.03, "gaussian:std=0.1"),)
        marks += (Mark(7.4, second, second - 0.03, second + 0.03, "gaussian:std=0.2"),)
        return Series(name, marks)

    far = Series("far", (Mark(36, 0.74, label="pgd:eps=2/255,steps=10"),))
    both = series("plain", 0.904, 0.664), series("hardened", 0.92, 0.858)
    chart = Chart("", "dB", "accuracy", (far, *both), x_scale="falling", wide=True, labelled=True)
    names = [one for one in ET.fromstring(draw(chart)).findall(".//text") if "gaussian" in (one.text or "")]
    assert len(names) == 4
    for one, other in itertools.combinations(names, 2):
        across, up = (abs(float(one.get(side, "")) - float(other.get(side, ""))) for side in "xy")
        assert across >= 6.5 * len(str(one.text)) or up >= 9


def test_every_figure_is_an_svg_file_that_stands_alone(run: Run, tmp_path: Path) -> None:
    said = command("report", run.folder, "--format", "svg", "--out", tmp_path)
    assert said.code == 0, said.err
    found = figures(studies([run])[0])
    assert {path.stem for path in tmp_path.iterdir()} == set(found)
    for name, one in found.items():
        tree = ET.fromstring((tmp_path / f"{name}.svg").read_text("utf-8"))
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"
        texts = "".join(tree.itertext())
        assert one.title in texts
        names = one.rows if isinstance(one, Grid | Dots) else [series.name for series in one.series]
        assert all(name in texts for name in names)


@pytest.mark.parametrize("section", sections(), ids=lambda one: one.kind)
def test_marks_lie_within_the_chart(section) -> None:
    drawn = figure(section)
    if isinstance(drawn, Chart):
        tree = ET.fromstring(alone(drawn))
        marks = tree.findall(".//{*}g/{*}circle")
        assert marks
        for circle in marks:
            assert 0 <= float(circle.get("cx", "-1")) <= width_of(drawn)
            assert 0 <= float(circle.get("cy", "-1")) <= HEIGHT


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=12))
def test_the_frontier_is_what_nothing_beats(pairs: list[tuple[float, float]]) -> None:
    points = tuple(Point(str(i), cost, benefit) for i, (cost, benefit) in enumerate(pairs))

    def beaten(one: Point) -> bool:
        return any(
            o.cost <= one.cost and o.benefit >= one.benefit and (o.cost, o.benefit) != (one.cost, one.benefit)
            for o in points
        )

    expected = {(p.cost, p.benefit) for p in points if not beaten(p)}
    assert {(p.cost, p.benefit) for p in frontier(points)} == expected
    assert figure(Frontier("t", "c", "b", points)) is not None


def test_the_spectrum_of_a_wave_is_at_its_frequency() -> None:
    y, x = np.mgrid[:32, :32]
    wave = np.cos(2 * np.pi * (5 * x + 3 * y) / 32)[None] * 0.1
    found = spectrum(wave)
    assert {tuple(at) for at in np.argwhere(found > 0.5).tolist()} == {(16 + 3, 16 + 5), (16 - 3, 16 - 5)}


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20), st.sampled_from(["linear", "log", "falling"]))
def test_a_scale_keeps_order_and_stays_inside(values: list[float], kind: str) -> None:
    scale = Scale.over(values, kind, 40, 300)
    places = [scale(value) for value in sorted(values)]
    assert all(40 - 1e-6 <= place <= 300 + 1e-6 for place in places)
    assert places == sorted(places, reverse=kind == "falling")
    assert all(scale.low - 1e-9 <= tick <= scale.high + 1e-9 for tick in scale.ticks())


def test_text_on_each_shade_can_be_read() -> None:
    def brightness(colour: str) -> float:
        colour = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    brighter = [brightness(colour) for colour in CIVIDIS]
    assert brighter == sorted(brighter)  # the order can be seen without its colours
    for share in np.linspace(0, 1, 101):
        low, high = sorted(brightness(colour) for colour in shade(float(share)))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def test_the_table_in_other_forms(run: Run, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(command("report", run.folder, "--format", "csv").out)))
    summary = {(row["model"], row["threat"], row["surface"]): row["value"] for row in run.summary}
    assert {(row["model"], row["threat"], row["surface"]): float(row["value"]) for row in rows} == summary
    [study] = studies([run])
    markdown = command("report", run.folder, "--format", "markdown").out
    latex = command("report", run.folder, "--format", "latex", "--out", tmp_path / "table.tex")
    assert latex.out.strip() == str(tmp_path / "table.tex")
    tex = (tmp_path / "table.tex").read_text()
    for (_, threat), at in study.rates.items():
        cell = f"{100 * at.value:.1f} [{100 * at.low:.1f}, {100 * at.high:.1f}]"
        assert cell in tex
        assert cell.replace("[", "\\[").replace("]", "\\]") in markdown
        assert threat.replace("_", "\\_") in tex
    assert r"one\_\&" in tex
    assert r"one\_&amp;" in markdown
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) <= 2
    assert not re.search(r"(?<!\\)[_&#](?![^\n]*\\\\)", tex.split("toprule")[0].split("caption")[1])


def test_the_gallery_keeps_to_its_megabytes(run: Run) -> None:
    [study] = studies([run])
    whole = gallery(study)
    assert whole is not None
    assert (whole["kept"], whole["shown"]) == (8, 8)
    size = sum(map(len, whole["pictures"]))
    less = gallery(study, size / 2e6)
    assert less is not None
    assert sum(map(len, less["pictures"])) <= size / 2
    assert 1 <= less["shown"] < 8
    assert len(whole["items"]) == 8 * 2 * (1 + len(THREATS))
    shared = {item["picture"] for item in whole["items"] if whole["threats"][item["threat"]].startswith("fog:1")}
    assert len(shared) <= 8  # both models met the same fog
    assert math.isclose(
        max(item["scale"] for item in whole["items"] if "eps=2/255" in whole["threats"][item["threat"]]),
        2 / 255,
        rel_tol=1e-3,
    )


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_what_was_fitted_in_a_run_is_drawn(tmp_path: Path, task: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)) if task == "classify" else nn.Conv2d(3, 3, 1)
    model = Wrapped(net.eval(), classes=3, task=Task(task))
    images = torch.rand(24, 3, 8, 8)
    labels = torch.arange(24) % 3 if task == "classify" else torch.randint(3, (24, 8, 8))
    attack = "universal:eps=0.1,images=8"
    run = vallum.evaluate({"net": model}, (images, labels), attack, n=8, out=tmp_path, progress=False)
    [study] = studies([run])
    [section] = study.sections
    assert isinstance(section, Universal)
    assert section.title.startswith(f"{run.plan.threats[1].spec} on net")
    assert float(np.abs(section.perturbation).max()) == pytest.approx(0.1, rel=1e-3)
    assert section.images == (run.perturbations[0]["folds"][0]["shown on"] if task == "classify" else 0)
    write(run.folder, section)  # one more of the kind
    text = write_report(run).read_text("utf-8")
    assert re.findall(r'<li><a href="#s1-(\w+)">universal</a>', text) == ["extra1"]
    assert section.title in text
    assert ("images change their answer" if task == "classify" else "of the answers change") in text
