"""Clean accuracy against the universal radius, a line for each sharedness: a picture, and what a linear model says.

    python results/shared_training/front.py MEASURED.jsonl front.svg

Models are called s16-8-2: sharedness 16, eps 8/255, seed 2. The question is whether a larger sharedness gives a larger
radius *at equal clean accuracy*: radius = height of its sharedness + slope * clean accuracy, with one slope for all.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from vallum.disk import write_whole
from vallum.report.figure import Chart, Mark, Series
from vallum.report.svg import alone

NAME = re.compile(r"s(\d+)-(\d+)-(\d+)")


def read(path: Path) -> tuple[np.ndarray, ...]:
    """For each hardened model: sharedness, eps in 1/255, clean accuracy, radius in 1/255."""
    rows = []
    for line in path.read_text().splitlines():
        said = json.loads(line)
        if found := NAME.fullmatch(said["model"]):
            star = said["eps_star 50 %"]["value"] * 255
            rows.append((*map(int, found.groups()[:2]), said["clean"]["value"], star))
    return tuple(np.array(column) for column in zip(*sorted(rows), strict=True))


def compared(heights: np.ndarray, clean: np.ndarray, radius: np.ndarray) -> list[tuple[str, float, float, float]]:
    """How much higher each sharedness lies than 1 at equal clean accuracy: difference, half interval (95 %), p."""
    kinds = sorted(set(heights.tolist()))
    design = np.stack([*((heights == kind).astype(float) for kind in kinds), clean - clean.mean()], 1)
    found, *_ = np.linalg.lstsq(design, radius, rcond=None)
    free = len(radius) - design.shape[1]
    spread = ((radius - design @ found) ** 2).sum() / free * np.linalg.inv(design.T @ design)
    said = []
    contrasts = [(f"sharedness {kind} minus 1", np.eye(design.shape[1])[place] - np.eye(design.shape[1])[0])
                 for place, kind in enumerate(kinds) if place]  # fmt: skip
    contrasts.append(("radius per point of clean accuracy", np.eye(design.shape[1])[-1] / 100))
    for name, contrast in contrasts:
        value, error = float(contrast @ found), float((contrast @ spread @ contrast) ** 0.5)
        said.append(
            (name, value, error * float(stats.t.ppf(0.975, free)), 2 * float(stats.t.sf(abs(value / error), free)))
        )
    return said


def main() -> None:
    heights, eps, clean, radius = read(Path(sys.argv[1]))
    series = []
    for place, kind in enumerate(sorted(set(heights.tolist()))):
        marks = []
        for value in sorted(set(eps[heights == kind].tolist())):
            mine = (heights == kind) & (eps == value)
            x, y = clean[mine], radius[mine]
            each = ", ".join(f"{100 * a:.1f}: {b:.1f}" for a, b in zip(x, y, strict=True))
            print(f"sharedness {kind}, eps {value}/255: {100 * x.mean():.1f} % clean, {y.mean():.1f}/255 ({each})")
            marks.append(Mark(100 * x.mean(), y.mean(), y.min(), y.max(), f"{value}/255"))
        series.append(Series(f"sharedness {kind}", tuple(sorted(marks, key=lambda mark: mark.x)), place, place))
    for name, value, half, p in compared(heights, clean, radius):
        print(f"{name}: {value:+.2f} [{value - half:+.2f}, {value + half:+.2f}], p = {p:.2g}")
    chart = Chart(
        "What shared training costs and brings", "clean accuracy, %", "universal radius (half wrong), 1/255",
        tuple(series), percent=False,
    )  # fmt: skip
    write_whole(Path(sys.argv[2]), lambda aside: aside.write_text(alone(chart)))


if __name__ == "__main__":
    main()
