"""The tables of README.md from what measure.py left: rates with intervals, paired with the bare model, image by image.

    python results/self_supervision/table.py runs/self_supervision

Writes measured.json beside itself. LABEL-EPS-FIRST.json are parts of one row; LABEL/BARE pairs a row with its model.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vallum.evaluation.statistics import Interval, mcnemar, paired_rates, rate

HERE = Path(__file__).parent
OF_THE_MODEL = ("clean", "oblivious", "transfer", "transfer, strong")  # what is carried over to a defence
BARE = {"cifar": "cifar_static", "through": "further", "joint": "further"}  # what a row is compared with, if not static

Row = dict[str, dict[int, bool]]  # of each surface which image was answered right


def read(folder: Path) -> tuple[dict[tuple[str, str], Row], dict[tuple[str, str], dict[str, Any]]]:
    rows: dict[tuple[str, str], Row] = defaultdict(lambda: defaultdict(dict))
    facts: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(folder.glob("*-*-*.json")):
        label, eps, _ = path.stem.rsplit("-", 2)
        found, key = json.loads(path.read_text()), (label, eps.replace("_", "/"))
        for surface, verdict in found["right"].items():
            rows[key][surface] |= dict(zip(found["keys"], map(bool, verdict), strict=True))
        kept = facts.setdefault(key, {"seconds": 0.0, "steps": found["steps"]})
        kept["seconds"] = round(kept["seconds"] + found["seconds"]["defence"], 1)
        kept["passes"] = found.get("passes", kept.get("passes"))
    for eps in [eps for label, eps in rows if label == "unrolled"]:  # the same defence, attacked one way more
        together: Row = dict(rows["fast", eps])
        dearest = rows["unrolled", eps]["union"]
        together["union"] = {key: right and dearest[key] for key, right in together["union"].items() if key in dearest}
        rows["fast with unrolled", eps], facts["fast with unrolled", eps] = together, dict(facts["unrolled", eps])
    return rows, facts


def said(one: Interval, sign: str = "") -> str:
    return f"{100 * one.value:{sign}.1f} [{100 * one.low:{sign}.1f}, {100 * one.high:{sign}.1f}]"


def of(verdicts: dict[int, bool], keys: list[int]) -> np.ndarray:
    return np.array([verdicts[key] for key in keys], bool)


def line(label: str, eps: str, rows: dict[tuple[str, str], Row], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything that is said of a row."""
    mine, n = rows[label, eps], len(rows[label, eps]["clean"])
    rates = {name: rate(sum(verdicts.values()), len(verdicts)) for name, verdicts in mine.items()}
    found = {"row": label, "eps": eps, "n": n, **facts, "rates": {k: said(v) for k, v in rates.items()}}
    bare = rows.get((BARE.get(label, "static"), eps))
    if bare is not None and label != BARE.get(label, "static"):
        keys = sorted(mine["union"].keys() & bare["union"].keys())
        for what in ("oblivious", "union"):
            theirs, ours = of(bare[what], keys), of(mine[what], keys)
            pair = mcnemar(theirs, ours)
            found[f"{what} against the model"] = {
                "n": len(keys), "gain": said(paired_rates(theirs, ours), "+"), "p": round(pair.p, 5),
                "only the defence": pair.only_second, "only the model": pair.only_first,
            }  # fmt: skip
    return found


def shares(row: Row) -> list[str]:
    """Of each surface what is left under it alone, how many it broke, and how many nobody else broke."""
    names = [name for name in row if name not in ("clean", "union")]
    keys = sorted(set.intersection(*(set(row[name]) for name in names)))
    clean = of(row["clean"], keys)
    broken = {name: clean & ~of(row[name], keys) for name in names}
    lines = ["| surface | left under it alone | broke | alone broke |", "| --- | --- | --- | --- |"]
    for name in names:
        others = np.any([broken[other] for other in names if other != name], 0)
        alone = rate(int(of(row[name], keys).sum()), len(keys))
        lines.append(f"| {name} | {said(alone)} | {broken[name].sum()} | {(broken[name] & ~others).sum()} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shares", default="", help="LABEL whose surfaces are held against each other, at 8/255")
    given = parser.parse_args()
    rows, facts = read(given.folder)
    if given.shares:
        print("\n".join(shares(rows[given.shares, "8/255"])))
        return
    lines = [line(label, eps, rows, facts[label, eps]) for label, eps in sorted(rows, key=lambda key: key[::-1])]
    (HERE / "measured.json").write_text(json.dumps(lines, indent=1) + "\n")
    print("| eps | row | n | clean | oblivious | transfer | worst case | gain over the model | p | passes |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in lines:
        pair = one.get("union against the model", {"gain": "", "p": "", "n": ""})
        rates = [one["rates"][name] for name in ("clean", "oblivious", "transfer", "union")]
        parts = [one["eps"], one["row"], one["n"], *rates, pair["gain"], pair["p"], one["passes"]]
        print("| " + " | ".join(str(part) for part in parts) + " |")


if __name__ == "__main__":
    main()
