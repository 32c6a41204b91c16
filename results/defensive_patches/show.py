"""What compare.py measured, as Markdown: python show.py OUT.json; with a second argument the front as a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

COLUMNS = ("selectivity", "gain", "own", "hijacked", "alone", "kept", "clean", "attacked", "gain attacked")


def rows(results: dict, model: str) -> list[str]:
    bare = results["none"][model]
    text = [f"| {model} | " + " | ".join(COLUMNS) + " |", "| --- |" + " --- |" * len(COLUMNS)]
    shown = {"own": said(bare["own"]), "clean": said(bare["clean"]), "attacked": said(bare["attacked"])}
    text.append("| no patch | " + " | ".join(shown.get(one, "") for one in COLUMNS) + " |")
    text.append("| grey | " + " | ".join(said(bare["grey"]) if one == "own" else "" for one in COLUMNS) + " |")
    for name, found in results.items():
        if name != "none":
            one = found[model]
            cells = [
                said(one[c], signed=c in ("selectivity", "gain", "gain attacked")) if c in one else "" for c in COLUMNS
            ]
            text.append(f"| {name} | " + " | ".join(cells) + " |")
    return text


def said(cell: list[float], signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (100 * one for one in cell[:3])
    return f"{value:{sign}.1f} [{low:{sign}.1f}, {high:{sign}.1f}]"


def front(results: dict, model: str, path: Path) -> None:
    """Accuracy against hijack, a point for each set."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(5.6, 3.8), dpi=90)
    for start, colour in (("selective", "tab:green"), ("wrong", "tab:orange"), ("", "tab:blue")):
        named = [one for one in results if one != "none" and "hijacked" in results[one][model]]
        mine = [one for one in named if one.startswith(start) and (start or not one.startswith(("selective", "wrong")))]
        x, y = ([100 * results[one][model][what][0] for one in mine] for what in ("hijacked", "own"))
        axes.plot(x, y, "o-" if start else "o", ms=4, lw=1, color=colour)
        for place, one in enumerate(mine):
            text = one.removeprefix(start) if start and place else one
            axes.annotate(
                text, (x[place], y[place]), xytext=(4, 4 - 9 * (place % 3)), textcoords="offset points", fontsize=6
            )
    axes.axhline(100 * results["none"][model]["own"][0], color="grey", lw=1)
    axes.set_xlabel("hijacked by another's patch, %")
    axes.set_ylabel("right with its own, corrupted, %")
    axes.set_title(f"{model}; grey: no patch", fontsize=9)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    results = json.loads(Path(sys.argv[1]).read_text())
    for model in results["none"]:
        print(*rows(results, model), "", sep="\n")
    if len(sys.argv) > 2:
        front(results, next(iter(results["none"])), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
