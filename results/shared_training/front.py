"""Clean accuracy against the universal radius, a line for each sharedness: a picture, and what a linear model says.

    python results/shared_training/front.py MEASURED.jsonl front.svg

Models are called s16-8-2: sharedness 16, eps 8/255, seed 2; s16-8-w25-2 with weight 0.25 of the perturbed images, or
-warm with a radius that grows. What is called otherwise stands in the table alone. The question is whether a larger
sharedness gives a larger radius *at equal clean accuracy*: radius = height of its sharedness + slope * clean accuracy,
with one slope for all.
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

NAME = re.compile(r"s(\d+)-(\d+)(?:-(w\d+|warm))?-(\d+)")


def read(path: Path) -> tuple[np.ndarray, ...]:
    """For each hardened model: sharedness, how it was trained (eps in 1/255, and what else), clean accuracy, radius."""
    rows = []
    for line in path.read_text().splitlines():
        said = json.loads(line)
        if found := NAME.fullmatch(said["model"]):
            star = said["eps_star 50 %"]["value"] * 255
            if said["clean"]["value"] < 0.5:
                print(f"{said['model']} has not learnt anything, and is left out", file=sys.stderr)
                continue
            sharedness, eps, other, _ = found.groups()
            how = f"{eps}/255" + (f", {other}" if other else "")
            rows.append((int(sharedness), int(eps), how, said["clean"]["value"], star))
    heights, _, how, clean, radius = zip(*sorted(rows), strict=True)
    return np.array(heights), np.array(how), np.array(clean), np.array(radius)


def table(path: Path) -> str:
    """All that was measured, in Markdown: accuracies in per cent, radii in 1/255, with their intervals."""
    lines = ["| network | clean | PGD 4/255 | PGD 8/255 | universal radius |", "| --- | --- | --- | --- | --- |"]
    for row in sorted((json.loads(line) for line in path.read_text().splitlines()), key=lambda one: one["model"]):
        cells = []
        for column, unit in (("clean", 100), ("pgd 4/255", 100), ("pgd 8/255", 100), ("eps_star 50 %", 255)):
            value, low, high = (row[column][part] * unit for part in ("value", "low", "high"))
            cells.append(f"{value:.1f} [{low:.1f}, {high:.1f}]")
        lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


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


def nearest(heights: np.ndarray, how: np.ndarray, clean: np.ndarray, radius: np.ndarray) -> None:
    """Of each sharedness and of 1 the two recipes whose clean accuracies are nearest, over their seeds (Welch)."""
    cells = {(s, h): (heights == s) & (how == h) for s, h in zip(heights.tolist(), how.tolist(), strict=True)}
    cells = {cell: mine for cell, mine in cells.items() if mine.sum() > 1}
    for kind in sorted({s for s, _ in cells} - {1}):
        pairs = [(abs(clean[a].mean() - clean[b].mean()), i, j)
                 for i, a in cells.items() for j, b in cells.items() if i[0] == kind and j[0] == 1]  # fmt: skip
        gap, mine, other = min(pairs)
        found = stats.ttest_ind(radius[cells[mine]], radius[cells[other]], equal_var=False)
        low, high = found.confidence_interval()
        more = radius[cells[mine]].mean() - radius[cells[other]].mean()
        names = f"sharedness {mine[0]} at {mine[1]} minus 1 at {other[1]}"
        print(f"{names}, {100 * gap:.1f} points of clean accuracy apart: {more:+.1f}/255 [{low:+.1f}, {high:+.1f}]")


def main() -> None:
    print(table(Path(sys.argv[1])))
    heights, how, clean, radius = read(Path(sys.argv[1]))
    series, means = [], {}
    for place, kind in enumerate(sorted(set(heights.tolist()))):
        marks = []
        for value in dict.fromkeys(how[heights == kind].tolist()):
            mine = (heights == kind) & (how == value)
            x, y = clean[mine], radius[mine]
            each = ", ".join(f"{100 * a:.1f}: {b:.1f}" for a, b in zip(x, y, strict=True))
            print(f"sharedness {kind}, eps {value}: {100 * x.mean():.1f} % clean, {y.mean():.1f}/255 ({each})")
            means[f"sharedness {kind}, eps {value}"] = x.mean(), y.mean()
            marks.append(Mark(round(100 * x.mean(), 1), y.mean(), y.min(), y.max(), value))
        series.append(Series(f"sharedness {kind}", tuple(sorted(marks, key=lambda mark: mark.x)), place, place))
    better = {name: [x > a and y > b for x, y in means.values()] for name, (a, b) in means.items()}
    print("on the front:", "; ".join(name for name, others in better.items() if not any(others)))
    for name, value, half, p in compared(heights, clean, radius):
        print(f"{name}: {value:+.2f} [{value - half:+.2f}, {value + half:+.2f}], p = {p:.2g}")
    nearest(heights, how, clean, radius)
    chart = Chart(
        "What shared training costs and brings", "clean accuracy, %", "universal radius (half wrong), 1/255",
        tuple(series), percent=False,
    )  # fmt: skip
    write_whole(Path(sys.argv[2]), lambda aside: aside.write_text(alone(chart)))


if __name__ == "__main__":
    main()
