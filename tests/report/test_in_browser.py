"""The page in a real browser: no script error, filters that filter, pictures that are what the models saw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Opened, browser
from made_sections import sections
from torch import nn

import vallum
from vallum.evaluation import Run
from vallum.evaluation.sections import Audit, Check, write
from vallum.images import Task
from vallum.models.model import Wrapped
from vallum.report import write_report

HOSTILE = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"-->{{7*7}}\u202e"]
ATTACK = "pgd:eps=16/255,steps=3"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two nets with hostile class names, one of them right on most images, attacked; a section of each kind."""
    torch.manual_seed(0)
    nets = {
        name: Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval(), classes=HOSTILE)
        for name in ("first", "second")
    }
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = nets["first"](images).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    threats = ["gaussian:std=0.2", "fog:3", "snow:3", "pgd:eps=4/255,steps=3", ATTACK]
    data = vallum.load_data((images, labels), classes=HOSTILE)
    found = vallum.evaluate(nets, data, threats, out=tmp_path_factory.mktemp("run"), progress=False)
    for section in sections():
        write(found.folder, section)
    write(found.folder, Audit(HOSTILE[0], tuple(Check(name, name, name, "failed", name) for name in HOSTILE)))
    write_report(found)
    return found


@pytest.fixture
def opened(chromium: Any, run: Run) -> Iterator[Opened]:
    with Opened(chromium, run.folder / "report.html") as page:
        yield page
        assert page.errors == []
        assert {url.split(":")[0] for url in page.asked} <= {"file", "data"}


def test_a_filter_changes_the_gallery(opened: Opened, run: Run) -> None:
    status = opened.page.locator(".pager [role=status]")
    assert status.inner_text() == "48 found, page 1 of 4"  # 24 pictures, two models, the strongest attack
    before = opened.tiles()
    assert len(before) == 12
    assert all(ATTACK in tile for tile in before)
    opened.choose("verdict", "stands")
    after = opened.tiles()
    assert after != before
    assert all("stands" in tile for tile in after)
    keys = ", ".join(str(p.key) for p in run.pictures)
    [(expected,)] = run.fetch(
        "SELECT count(*) FROM rows JOIN (SELECT model, key FROM rows WHERE threat = 'clean' AND correct)"
        f" USING (model, key) WHERE threat = '{ATTACK}' AND correct AND key IN ({keys})"
    )[1]
    assert (
        opened.page.locator(".pager [role=status]").inner_text().startswith(f"{expected} found" if expected else "none")
    )
    opened.choose("verdict", "all")
    opened.choose("model", "second")
    assert all(tile.split(" under ")[0].endswith("second") for tile in opened.tiles())
    opened.choose("threat", "clean")
    assert all("difference" not in tile for tile in opened.tiles())


def test_pages_turn_by_button_and_by_key(opened: Opened) -> None:
    first = opened.tiles()
    opened.page.get_by_role("button", name="next").click()
    second = opened.tiles()
    assert second != first
    opened.page.get_by_role("button", name="back").focus()
    opened.page.keyboard.press("ArrowLeft")
    assert opened.tiles() == first
    opened.page.locator(".tile button").first.focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.tiles() == second


def test_what_the_script_draws_is_what_the_model_saw(opened: Opened, run: Run) -> None:
    opened.choose("model", "first")
    opened.page.wait_for_function("[...document.querySelectorAll('.tile canvas')].every(c => c.width === 8)")
    drawn = opened.page.evaluate(
        "[...document.querySelectorAll('.tile canvas')].map(c => [...c.getContext('2d').getImageData(0, 0, 8, 8).data])"
    )
    kept = {(p.threat, p.key): p for p in run.pictures if p.model == "first"}
    keys = sorted({key for _, key in kept})
    for pixels, key in zip(drawn, keys, strict=False):
        original = kept["clean", key].original
        assert original is not None
        expected = 255 * np.clip(original + kept[ATTACK, key].difference, 0, 1)
        found = np.array(pixels, float).reshape(8, 8, 4)[..., :3]
        assert np.abs(found - expected).max() <= 1.01


def test_names_stay_text(opened: Opened) -> None:
    opened.choose("threat", "all")
    shown = opened.page.inner_text("body")
    assert HOSTILE[0] in shown
    assert HOSTILE[1] in shown
    assert "\u202e" not in shown
    assert r"\u202e" in shown
    assert opened.page.locator("script").count() == 2
    assert opened.page.locator("img[src=x]").count() == 0


def test_the_slider_reads_out_each_setting(opened: Opened) -> None:
    slider = opened.page.get_by_role("slider")
    reading = opened.page.locator("output")
    assert reading.inner_text().startswith("share of patches kept 0.3: clean 81.9 [78.9, 84.9] %")
    slider.focus()
    before = opened.page.locator(".large .cursor").get_attribute("d")
    opened.page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("share of patches kept 0.5: ")
    assert opened.page.locator(".large .cursor").get_attribute("d") != before
    for _ in range(10):
        opened.page.keyboard.press("ArrowLeft")
    assert reading.inner_text().startswith("share of patches kept 0.05: ")


def test_a_tile_opens_large_and_closes_by_key(opened: Opened) -> None:
    tile = opened.page.locator(".tile button").first
    tile.focus()
    opened.page.keyboard.press("Enter")
    dialog = opened.page.locator("dialog")
    assert dialog.is_visible()
    opened.page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_everything_is_reached_by_the_tab_key(opened: Opened) -> None:
    wanted = opened.page.evaluate(
        """() => { const all = [...document.querySelectorAll("a[href], button:not(:disabled), select, input, summary")]
        .filter(e => e.checkVisibility()); all.forEach((e, i) => e.dataset.place = i); return all.length }"""
    )
    met = set()
    for _ in range(wanted + 40):  # regions that scroll are stops as well
        opened.page.keyboard.press("Tab")
        met.add(opened.page.evaluate("document.activeElement.dataset.place ?? ''"))
    assert {str(place) for place in range(wanted)} <= met


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_it_fits_a_phone_in_light_and_dark(chromium: Any, run: Run, width: int, scheme: str) -> None:
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with Opened(chromium, run.folder / "report.html", **options) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        colours = opened.page.evaluate(
            """() => { const of = (e, p) => getComputedStyle(document.querySelector(e))[p];
            return [of("body", "backgroundColor"), of("body", "color"), of(".soft", "color"),
            of(".card .low dd", "color"), of(".tag.failed", "color"),
            of(".tag.doubtful", "color"), of(".tag.passed", "color")] }"""
        )
        paper, *inks = ([int(part) for part in re.findall(r"\d+", colour)[:3]] for colour in colours)
        assert (sum(paper) < 384) == (scheme == "dark")
        for ink in inks:
            assert contrast(paper, ink) >= 4.5  # WCAG AA
        assert opened.errors == []


def contrast(one: list[int], other: list[int]) -> float:
    def brightness(colour: list[int]) -> float:
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((brightness(one), brightness(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("width", "shown", "hidden"), [(1280, "large", "small"), (390, "small", "large")])
def test_text_has_one_size_in_all_charts(chromium: Any, run: Run, width: int, shown: str, hidden: str) -> None:
    with Opened(chromium, run.folder / "report.html", viewport={"width": width, "height": 800}) as opened:
        charts = opened.page.locator(f".{shown} svg.chart")
        assert charts.count() == opened.page.locator(f".{hidden} svg.chart").count() >= 4
        for place in range(charts.count()):
            assert charts.nth(place).is_visible()
            assert not opened.page.locator(f".{hidden} svg.chart").nth(place).is_visible()
        sizes = opened.page.evaluate(
            "[...document.querySelectorAll('svg.chart')].filter(e => e.checkVisibility()).map(e => e.getScreenCTM().a)"
        )
        assert all(0.95 <= size <= 1.001 for size in sizes)
        wide = charts.first.bounding_box()["width"] / opened.page.locator("main").bounding_box()["width"]
        assert wide >= 0.7
        slider = opened.page.get_by_role("slider")
        at = opened.page.locator(f".{shown} .cursor").evaluate("e => e.getBoundingClientRect().x")
        slider.focus()
        opened.page.keyboard.press("ArrowRight")
        assert opened.page.locator(f".{shown} .cursor").evaluate("e => e.getBoundingClientRect().x") > at + 20


def test_it_prints_with_its_folds_open(opened: Opened) -> None:
    folded = opened.page.locator("section > details:not([open])")
    opened.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    assert folded.count() > 0
    opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert folded.count() == 0
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert not opened.page.locator(".controls").is_visible()
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") in (
        "rgb(255, 255, 255)",
        "rgba(0, 0, 0, 0)",
    )
    assert len(opened.page.pdf()) > 10_000


def test_a_segmenter_shows_its_masks(chromium: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Wrapped(nn.Conv2d(3, 3, 1), task=Task.SEGMENT, classes=["road", "sky", HOSTILE[1]]).eval()
    images = torch.rand(6, 3, 8, 16)
    masks = net(images).argmax(1)
    masks[:, 0] = 255
    data = vallum.load_data((images, masks), classes=["road", "sky", HOSTILE[1]], task="segment")
    run = vallum.evaluate(net, data, ["gaussian:std=0.2", ATTACK], out=tmp_path, progress=False)
    with Opened(chromium, write_report(run)) as opened:
        assert len(opened.tiles()) == 6
        assert all("truth answer" in tile for tile in opened.tiles())
        assert "sky" in opened.page.locator(".key").inner_text()
        colours = opened.page.evaluate(
            """async () => { const shown = [...document.querySelectorAll('img[alt="true classes"]')];
            const read = async (i) => { await i.decode(); const c = document.createElement('canvas');
            c.width = 16; c.height = 8; const b = c.getContext('2d'); b.drawImage(i, 0, 0);
            return [...b.getImageData(0, 0, 16, 8).data] };
            return Promise.all(shown.map(read)) }"""
        )
        named = {0: (0, 0x72, 0xB2), 1: (0xD5, 0x5E, 0), 2: (0, 0x9E, 0x73), 255: (255, 255, 255)}
        for pixels, mask in zip(colours, masks, strict=True):
            found = np.array(pixels).reshape(8, 16, 4)[..., :3]
            assert (found == np.array([[named[int(place)] for place in row] for row in mask])).all()
        opened.choose("verdict", "broken")
        assert all("broken" in tile for tile in opened.tiles())
        assert opened.errors == []
