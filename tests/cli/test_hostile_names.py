"""Whoever names a file, a class or a model may mean harm: nothing of it reaches the page or the terminal as it is."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Said, command

HTML, ESCAPE, TITLE, MARKUP = "<script>alert(1)", "\x1b[31m", "\x1b]0;title\x07", "[red]x[bold]:smile:"
BIDI, IMG = "\u202egnp.exe", "<img src=x onerror=alert(1)>"
NAMES = [HTML, ESCAPE, TITLE, MARKUP, BIDI, IMG, "'\"--><!--", "\r\n\tline", "{{ 7 * 7 }}"]
NETS = f"""
from torch import nn
def build(): return nn.Sequential(nn.Flatten(), nn.Linear(48, {len(NAMES)}))
"""


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def harmless(text: str) -> bool:
    return all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """A run in which the folder, its classes, its files and the model have hostile names, and a file is broken."""
    at = tmp_path_factory.mktemp("hostile")
    photos = at / f"photos{MARKUP}{ESCAPE}{IMG}"
    for place, name in enumerate(NAMES):
        (photos / name).mkdir(parents=True)
        pixels = np.full((4, 4, 3), 20 * place, np.uint8)
        Image.fromarray(pixels).save(photos / name / f"{name}{place}.png")
    for name in (HTML + ESCAPE, MARKUP + TITLE + BIDI):
        (photos / MARKUP / f"{name}.png").write_text("no picture")
    (at / "nets.py").write_text(NETS)
    model = f"{HTML}{MARKUP.replace(':', '')}{ESCAPE}{TITLE}{BIDI}={at / 'nets.py'}:build"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        arguments = (model, "--data", f"folder:{photos.name}", "--on-error", "skip", "--threat", "pgd:eps=0.1,steps=1")
        said = command("evaluate", *arguments, "--workers", 1, "--out", at / f"run{ESCAPE}{MARKUP}")
    assert said.code == 0, said.err
    return at / f"run{ESCAPE}{MARKUP}", said


def test_the_terminal_gets_nothing_that_steers_it(run: tuple[Path, Said]) -> None:
    said = run[1]
    assert harmless(said.out)
    assert harmless(said.err)
    column = [line.split("┃")[2].strip() for line in said.out.splitlines() if line.startswith("┃")]
    assert "".join(column) == rf"{HTML}{MARKUP.replace(':', '')}\x1b[31m\x1b]0;title\x07\u202egnp.exe"


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_reading_a_run_is_as_harmless(run: tuple[Path, Said], form: str) -> None:
    for query in ([], ["--sql", "SELECT model, name, label FROM rows ORDER BY key"]):
        said = command("results", run[0], *query, "--format", form)
        assert said.code == 0, said.err
        assert harmless(said.out)
    if form == "json":
        assert {row["label"] for row in json.loads(said.out)} == set(range(len(NAMES)))


def test_the_page_has_no_tag_that_vallum_did_not_write(run: tuple[Path, Said]) -> None:
    page = (run[0] / "report.html").read_text("utf-8")
    tags = Tags()
    tags.feed(page)
    assert {"script", "img", "b", "a", "link", "iframe"} & {tag for tag, _ in tags.found} <= {"b", "a", "script"}
    scripts = [dict(attributes) for tag, attributes in tags.found if tag == "script"]
    assert scripts == [{"type": "application/json"}, {}]  # the gallery's data, and vallum's own script
    assert all(dict(attributes)["href"].startswith("#") for tag, attributes in tags.found if tag == "a")
    assert not any(name.startswith("on") for _, attributes in tags.found for name, _ in attributes)
    assert harmless(page)
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert r"\x1b]0;title\x07" in page
    assert r"\u202egnp.exe" in page
    assert "<!--" not in page
    assert " 49" not in page.split("Left out")[1]


def test_an_error_is_one_harmless_line(run: tuple[Path, Said], tmp_path: Path) -> None:
    command("results", tmp_path / f"{TITLE}\n{ESCAPE}").refuses(r"\x1b]0;title\x07\n\x1b[31m holds no run")
    command("evaluate", f"x{ESCAPE}\n{TITLE}").refuses(r"x\x1b[31m\n\x1b]0;title\x07")
    command("evaluate", "net:resnet", "--threat", f"pgd:eps={ESCAPE}]").refuses(r"\x1b[31m")
    command("results", run[0], "--sql", f"SELECT '{ESCAPE}' FROM nowhere").refuses("that SQL cannot be run")
