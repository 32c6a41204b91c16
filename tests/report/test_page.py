"""The page says what summary.json says, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vallum
from vallum.defences import Defence, draws_for
from vallum.evaluation import Run
from vallum.evaluation.summary import UNION, WORST
from vallum.images import Task
from vallum.models.model import Wrapped
from vallum.report import write_report
from vallum.report.gallery import IGNORED, _channels, _colour, gallery
from vallum.report.study import studies

THREATS = ["gaussian:std=0.2", "pgd:eps=16/255,steps=3"]


class Page(HTMLParser):
    """Tables as rows of texts under their heading, and every address that a browser would load."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.title, self.inside = "", ""  # of which heading, and in a heading or in a cell
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag == "h2":
            self.title, self.inside = "", "heading"
        if tag == "tr":
            self.tables.setdefault(self.title, []).append([])
        if tag in ("td", "th"):
            self.inside = "cell"
            self.tables[self.title][-1].append("")

    def handle_data(self, data: str) -> None:
        if self.inside == "heading":
            self.title += data
        if self.inside == "cell":
            self.tables[self.title][-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h2", "td", "th"):
            self.inside = ""

    def rows(self, title: str) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.tables[title]]


class Rounding(Defence):
    """No gradient comes through it: only an attack on the model beneath it finds anything."""

    randomised = stateful = False

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 8).round() / 8)


def classifiers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    net = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval(), classes=3)
    return {"bare": net, "rounded": Rounding(net)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A bare net and a defended one, attacked, in a run whose page is written."""
    models = classifiers()
    images = torch.rand(30, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = models["bare"](images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    found = vallum.evaluate(models, (images, labels), THREATS, out=tmp_path_factory.mktemp("run"), progress=False)
    write_report(found)
    return found


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(run.folder / "report.html")


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def headline(summary: list[dict[str, Any]], metric: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What stands for a model under a threat: the union of its surfaces where there are several."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in summary:
        if row["metric"] == metric and ((row["model"], row["threat"]) not in found or row["surface"] == UNION):
            found[row["model"], row["threat"]] = row
    return found


def test_every_rate_is_that_of_the_summary(run: Run, page: Page) -> None:
    summary = headline(json.loads((run.folder / "summary.json").read_text()), "accuracy")
    heading, *rows = page.rows("Accuracy in per cent")
    assert heading == ["threat", "bare", "rounded"]
    assert [row[0] for row in rows] == ["clean", *THREATS, WORST]
    for threat, *cells in rows:
        for name, cell in zip(heading[1:], cells, strict=True):
            one = summary[name, threat]
            assert cell == f"{percent(one['value'])} [{percent(one['low'])}, {percent(one['high'])}]"


def test_bars_are_as_long_as_the_rates(run: Run, page: Page) -> None:
    bars = re.findall(r'class="fill"\s+style="width:([\d.]+)%"', page.text)
    summary = headline(run.summary, "accuracy")
    expected = [
        percent(summary[name, threat]["value"]) for threat in ("clean", *THREATS, WORST) for name in ("bare", "rounded")
    ]
    assert bars[: len(expected)] == expected


class Noise(Defence):
    """Answers otherwise from draw to draw."""

    stateful, exact_gradient = False, True

    def purify(self, images: Tensor) -> Tensor:
        return images + 0.3 * draws_for(images, "noise").normal(*images.shape[1:], purpose="pixels")


def test_draws_and_what_a_prediction_costs_are_shown(tmp_path: Path) -> None:
    net = classifiers()["bare"]
    images = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = vallum.evaluate({"noisy": Noise(net)}, (images, net(images).argmax(1)), THREATS[1], out=tmp_path, draws=3)
    page = Page(write_report(found))
    shown = {(row[1], row[2]): row[3] for row in page.rows("Answers that differ from draw to draw")[1:]}
    for one in found.summary:
        if one["model"] == "noisy" and one["surface"] == UNION:
            at = f"{percent(one['value'])} [{percent(one['low'])}, {percent(one['high'])}]"
            assert shown[one["threat"], one["metric"]] == at
    assert len(shown) == 9  # clean, the attack and the worst: mean, majority, worst draw
    assert "noisy: a prediction takes 1 passes of the bare model" in " ".join(page.text.split())


def test_costs_are_those_of_the_summary(run: Run, page: Page) -> None:
    rows = {tuple(row[:3]): row[3:] for row in page.rows("Cost")[1:]}
    costs = [row for row in run.summary if row["threat"] != WORST and row["surface"] != UNION]
    assert set(rows) == {(row["model"], row["threat"], row["surface"]) for row in costs}
    for row in costs:
        passes = [f"{row[kind] / row['n']:.1f}" for kind in ("forwards", "backwards")]
        each, whole = f"{1000 * row['seconds'] / row['n']:.1f}", f"{row['seconds']:.1f}"
        assert rows[row["model"], row["threat"], row["surface"]][:2] == passes
        assert abs(float(rows[row["model"], row["threat"], row["surface"]][2]) - float(each)) <= 0.1
        assert abs(float(rows[row["model"], row["threat"], row["surface"]][3]) - float(whole)) <= 0.1


def test_comparisons_are_those_of_the_file(run: Run, page: Page) -> None:
    pairs = json.loads((run.folder / "comparisons.json").read_text())
    rows = page.rows("The same images, two models")[1:]
    assert len(rows) == len(pairs) == 4
    for row, pair in zip(rows, pairs, strict=True):
        counts = [str(pair["only_first"]), str(pair["only_second"])]
        gain = f"{100 * pair['gain']:+.1f} [{100 * pair['gain_low']:+.1f}, {100 * pair['gain_high']:+.1f}]"
        assert row[:-1] == [pair["threat"], pair["first"], pair["second"], gain, *counts, f"{pair['p']:.2g}"]
        assert pair["p"] <= float(row[-1]) * 1.01


def test_an_ignorant_attacker_is_shown_beside_one_who_knows(run: Run, page: Page) -> None:
    """Through the defence the gradient is zero, so the attack by transfer decides; neither stands alone."""
    left = {row["surface"]: row["value"] for row in run.summary if row["model"] == "rounded" and "pgd" in row["threat"]}
    assert left[UNION] <= left["transfer"] < left["direct"]
    [row] = page.rows("An attacker who does not know of the defence")[1:]
    assert row[:2] == ["rounded", THREATS[1]]
    assert [cell.split()[0] for cell in row[2:]] == [percent(left["transfer"]), percent(left[UNION])]
    assert "Not a measure of robustness" in page.text
    assert percent(left["direct"]) not in [cell for row in page.rows("Accuracy in per cent")[3:] for cell in row]


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"link", "iframe", "object", "embed", "img", "form", "base"} & set(page.tags)
    assert "http:" not in page.text
    assert "https:" not in page.text
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert page.text.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in page.text


def test_the_page_says_how_to_repeat_the_run(run: Run, page: Page) -> None:
    facts = dict(row[:2] for row in page.rows("How to reproduce it"))
    assert run.plan.data_fingerprint in facts["data"]
    assert run.plan.models[1].fingerprint in facts["rounded"]
    assert "surfaces: direct, straight-through, black-box, transfer" in facts["rounded"]
    assert facts["settings"] == "seed 0, batch size 64, 1 thread per worker, device cpu"
    assert torch.__version__ in facts["versions"]
    assert any("gradient is exactly zero" in row[1] for row in page.rows("How to reproduce it") if row[0] == "note")


def test_a_run_without_a_finished_cell_has_a_page(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes((run.folder / "plan.json").read_bytes())
    page = Page(write_report(Run(tmp_path)))
    assert page.rows("Accuracy in per cent") == [["threat", "bare", "rounded"]]
    assert "cells are not finished" in page.text


def test_a_run_without_an_attack_says_that_nothing_is_known(tmp_path: Path) -> None:
    data = torch.rand(6, 3, 4, 4), torch.arange(6) % 3
    run = vallum.evaluate(classifiers()["bare"], data, THREATS[:1], out=tmp_path, progress=False)
    text = write_report(run).read_text("utf-8")
    assert "it was not attacked, so nothing is known of its worst case" in text
    assert "An attacker who does not know" not in text


def test_a_segmenter_is_shown_by_its_miou(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Wrapped(nn.Conv2d(3, 3, 1), task=Task.SEGMENT, classes=3).eval()
    images = torch.rand(6, 3, 8, 8)
    masks = net(images).argmax(1)
    masks[:, 0] = 255
    masks[:, 1] = (masks[:, 1] + 1) % 3
    models = {"first": net, "second": Rounding(net)}
    run = vallum.evaluate(models, (images, masks), THREATS, out=tmp_path, progress=False)
    page = Page(write_report(run))
    summary = headline(run.summary, "mIoU")
    for threat, *cells in page.rows("mIoU in per cent")[1:]:
        for name, cell in zip(("first", "second"), cells, strict=True):
            one = summary[name, threat]
            assert cell == f"{percent(one['value'])} [{percent(one['low'])}, {percent(one['high'])}]"
    assert len(page.rows("The same images, two models")[1]) == 6
    assert "Wilcoxon signed-rank" in page.text
    assert "bootstrap over images" in page.text
    assert {row[2] for row in page.rows("Cost")[1:]} == {"direct", "straight-through", "black-box", "transfer"}


def test_a_segmenter_that_was_wrong_before_gets_no_credit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Wrapped(nn.Conv2d(3, 3, 1), task=Task.SEGMENT, classes=3).eval()
    images = torch.rand(6, 3, 8, 8)
    masks = net(images).argmax(1)
    masks[:3] = (masks[:3] + 1) % 3  # of three images no pixel is right
    run = vallum.evaluate(net, (images, masks), ["gaussian:std=0.001", THREATS[1]], out=tmp_path, progress=False)
    album = gallery(studies([run])[0])
    assert album is not None
    noisy = album["threats"].index("gaussian:std=0.001")
    verdicts = {
        int(album["images"][item["image"]]["name"].rsplit(" ", 1)[-1]): album["verdicts"][item["verdict"]]
        for item in album["items"]
        if item["threat"] == noisy
    }
    assert verdicts == {**dict.fromkeys(range(3), "wrong before"), **dict.fromkeys(range(3, 6), "stands")}
    text = " ".join(write_report(run).read_text("utf-8").split())
    assert "the fewest pixels right; the mIoU of these answers." in text
    assert "an image counts only if" not in text


def test_no_class_looks_as_what_is_ignored() -> None:
    white = _channels(IGNORED)
    for place in range(255):
        assert max(abs(one - other) for one, other in zip(_colour(place), white, strict=True)) >= 60
