"""A large run stays usable: the page holds little more than that of a small one, and pictures wait to be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import Opened, browser
from large_run import large_run

from vallum.report import write_report


@pytest.mark.slow
def test_ten_thousand_images_and_fifty_cells(tmp_path: Path) -> None:
    pages = {n: write_report(large_run(tmp_path / str(n), n)) for n in (100, 10_000)}
    sizes = {n: page.stat().st_size for n, page in pages.items()}
    assert max(sizes.values()) < 3e6
    assert sizes[10_000] < 1.1 * sizes[100]
    with browser() as started, Opened(started, pages[10_000]) as opened:
        assert opened.page.evaluate("document.querySelectorAll('*').length") < 6000
        assert opened.page.evaluate("document.querySelectorAll('img, canvas').length") <= 5 * 12
        opened.choose("model", "hardened")
        opened.choose("verdict", "falls")
        assert opened.tiles()
        assert opened.errors == []
