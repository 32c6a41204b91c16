"""A browser for the tests that open a page: the system's Chromium, or the one that playwright brings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SWITCHES += ["--disable-sync", "--no-first-run"]


@contextmanager
def browser() -> Iterator[Any]:
    """Started once for many pages; a test that has none is skipped, and says what is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, CALLED)), None)
        try:
            started = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        except api.Error:
            if found is not None:
                raise
            pytest.skip("there is no Chromium: install the system's, or run `playwright install chromium`")
        yield started
        started.close()


class Opened:
    """A page that is open, with all that it complained of and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page.set_default_timeout(15_000)
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else 0)
        self.page.on("pageerror", lambda problem: self.errors.append(str(problem)))
        self.page.on("dialog", lambda box: (self.errors.append(f"a dialog: {box.message}"), box.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.resolve().as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()

    def tiles(self) -> list[str]:
        return [" ".join(text.split()) for text in self.page.locator(".tile").all_inner_texts()]

    def choose(self, name: str, option: str) -> None:
        self.page.get_by_label(name, exact=True).select_option(label=option)
