"""How large the report is, how long it takes to write, and how long a browser takes to open it.

    python benchmarks/report.py [RUN...]

Without runs: two models under twenty-five threats, on 100 and on 10,000 made-up images. A page counts as open when it
is loaded, its gallery stands and a frame has been drawn. Each is opened several times; the median is printed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "report"))
from browser import Opened, browser
from large_run import large_run

from vallum.evaluation.run import Run
from vallum.report import write_report

TIMES = 5
DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def main(folders: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch, browser() as started:
        runs = {name: Run(name) for name in folders}
        runs |= {} if runs else {f"{n} images": large_run(Path(scratch) / str(n), n) for n in (100, 10_000)}
        print(f"{'run':24}{'written in s':>14}{'size in MB':>12}{'elements':>10}{'opened in s':>13}")
        for name, run in runs.items():
            start = time.perf_counter()
            page = write_report(run, Path(scratch) / "page.html")
            wrote = time.perf_counter() - start
            took, elements = [], 0
            for _ in range(TIMES):
                start = time.perf_counter()
                with Opened(started, page) as opened:
                    opened.page.evaluate(DRAWN)
                    took.append(time.perf_counter() - start)
                    elements = opened.page.evaluate("document.querySelectorAll('*').length")
                    assert not opened.errors, opened.errors
            size, opening = page.stat().st_size / 1e6, statistics.median(took)
            print(f"{name[-23:]:24}{wrote:14.1f}{size:12.2f}{elements:10}{opening:13.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
