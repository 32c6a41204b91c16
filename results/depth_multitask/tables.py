"""Tables, tests and the plot from what measure.py found: tables.py FOLDER writes measured.json and snr.png here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from vallum.evaluation import Run
from vallum.evaluation.statistics import mean_iou

HERE = Path(__file__).parent
Rows = dict[str, dict[str, Any]]  # by threat: intersection and union (N, K), snr (N,)


def rows(folder: Path, part: str, name: str) -> Rows:
    place = folder / "runs" / part / name
    if not (place / "plan.json").exists():
        return {}
    run = Run(place)
    found: dict[str, list[Any]] = {}
    for threat, *row in run.fetch('SELECT threat, intersection, "union", snr FROM rows ORDER BY threat, key')[1]:
        found.setdefault(threat, []).append(row)
    order = [name for name in dict.fromkeys(row["threat"] for row in run.summary) if name in found]
    return {
        threat: {
            "intersection": np.array([row[0] for row in found[threat]]),
            "union": np.array([row[1] for row in found[threat]]),
            "snr": np.array([np.nan if row[2] is None else row[2] for row in found[threat]], float),
        }
        for threat in order
    }


def per_image(one: dict[str, np.ndarray]) -> np.ndarray:
    """(N,) each image's own mean IoU."""
    there = one["union"] > 0
    return np.where(there, one["intersection"] / np.maximum(one["union"], 1), 0).sum(1) / there.sum(1)


def miou(one: dict[str, np.ndarray]) -> float:
    return mean_iou(one["intersection"], one["union"], resamples=1).value


def gain(pairs: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]) -> dict[str, Any]:
    """Another kind of network minus single-task: a bootstrap over images of the mean over seeds, and tests."""
    generator = np.random.default_rng(0)
    count = len(pairs[0][0]["union"])
    times = generator.multinomial(count, np.full(count, 1 / count), size=2000)
    drawn = np.zeros(2000)
    for sign, side in ((-1, 0), (1, 1)):
        for pair in pairs:
            inside, around = times @ pair[side]["intersection"], times @ pair[side]["union"]
            there = around > 0
            drawn += sign * np.where(there, inside / np.maximum(around, 1), 0).sum(1) / there.sum(1) / len(pairs)
    each = [miou(two) - miou(one) for one, two in pairs]
    before, after = (np.mean([per_image(pair[side]) for pair in pairs], 0) for side in (0, 1))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "gain": float(np.mean(each)),
        "low": float(low),
        "high": float(high),
        "by_seed": each,
        "wilcoxon_p": float(stats.wilcoxon(after, before).pvalue) if bool((after != before).any()) else 1.0,
        "t_over_seeds_p": float(stats.ttest_1samp(each, 0).pvalue) if len(each) > 1 else None,
        "images": count,
    }


def compared(kinds: set[str]) -> Iterator[tuple[str, str]]:
    """Each kind with the single-task networks that were trained as long on the same; multi-task with its controls."""
    for kind in sorted(kinds - {"single", "camvid_single", "single+shared"}):
        yield kind, "single+shared" if kind.endswith("+shared") else "camvid_single" if "camvid" in kind else "single"
    for control in ("shuffled", "picture", "domains", "longer", "noise", "adversarial"):
        if {control, "multi"} <= kinds:
            yield "multi", control


def measured(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("noise", "attacks", "strong", "corruptions", "universal", "few", "camvid"):
        names = (
            sorted(place.name for place in (folder / "runs" / part).glob("*-*")) if (folder / "runs").exists() else []
        )
        every = {name: rows(folder, part, name) for name in names}
        threats = list(dict.fromkeys(threat for one in every.values() for threat in one))
        for threat in threats:
            line: dict[str, Any] = {"part": part, "networks": {}}
            for name in names:
                if threat in every[name]:
                    one = every[name][threat]
                    interval = mean_iou(one["intersection"], one["union"])
                    line["networks"][name] = {
                        "miou": interval.value, "low": interval.low, "high": interval.high,
                        "snr": float(np.nanmedian(one["snr"])) if np.isfinite(one["snr"]).any() else None,
                    }  # fmt: skip
            line["differences"] = {}
            for kind, base in compared({name.rpartition("-")[0] for name in line["networks"]}):
                seeds = [s for s in "0123456789" if all(threat in every.get(f"{n}-{s}", {}) for n in (base, kind))]
                if seeds:
                    pairs = [(every[f"{base}-{s}"][threat], every[f"{kind}-{s}"][threat]) for s in seeds]
                    line["differences"][f"{kind} - {base}"] = {"seeds": seeds, **gain(pairs)}
            if threat == "clean" and part == "noise":
                line["by_class"] = {
                    name: (one["clean"]["intersection"].sum(0) / np.maximum(one["clean"]["union"].sum(0), 1)).tolist()
                    for name, one in every.items()
                }
            found[f"{part}/{threat}"] = line
    for part in ("depth", "gradient"):
        file = folder / "runs" / f"{part}.jsonl"
        if file.exists():
            found[part] = [json.loads(line) for line in file.read_text().splitlines()]
    return found


def lines(found: dict[str, Any]) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Kind of threat, kind of network, SNR (P,) and mIoU (seeds, P), from the weakest on."""
    kinds = {"Gaussian noise": "of=(gaussian)", "salt and pepper": "of=(salt_pepper)", "FGSM": "fgsm:", "PGD": "pgd:"}
    for kind, mark in kinds.items():
        chosen = [line for name, line in found.items() if mark in name and "few/" not in name and "loss=" not in name]
        for network in ("single", "multi"):
            points = []
            for line in chosen:
                seeds = line["differences"].get("multi - single", {"seeds": []})["seeds"]  # the same of both
                of = [line["networks"][f"{network}-{seed}"] for seed in seeds]
                if of:
                    points.append((np.mean([o["snr"] for o in of]), [o["miou"] for o in of]))
            points.sort(key=lambda point: -point[0])
            if points:
                yield kind, network, np.array([p[0] for p in points]), np.array([p[1] for p in points]).T


def plot(found: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(7.2, 4.2), constrained_layout=True)
    styles = {"Gaussian noise": "-", "salt and pepper": "--", "FGSM": "-.", "PGD": ":"}
    marks = {"Gaussian noise": "o", "salt and pepper": "s", "FGSM": "^", "PGD": "D"}
    colours = {"single": "#555555", "multi": "#0072b2"}
    for kind, network, snr, values in lines(found):
        label = f"{network}-task, {kind}"
        axes.plot(
            snr,
            100 * values.mean(0),
            styles[kind],
            marker=marks[kind],
            ms=4,
            color=colours[network],
            label=label,
        )
        axes.fill_between(snr, 100 * values.min(0), 100 * values.max(0), color=colours[network], alpha=0.15, lw=0)
    clean = found.get("noise/clean", {"networks": {}})["networks"]
    for network, colour in colours.items():
        of = [100 * value["miou"] for name, value in clean.items() if name.rpartition("-")[0] == network]
        if of:
            axes.axhline(np.mean(of), color=colour, lw=0.7)
    axes.invert_xaxis()
    axes.set_xlabel("signal to noise in dB, median over images: to the right more is done to the image")
    axes.set_ylabel("mIoU in %")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, ncol=2)
    figure.savefig(path, dpi=110)


def main() -> None:
    found = measured(Path(sys.argv[1]))
    (HERE / "measured.json").write_text(json.dumps(found, indent=1) + "\n")
    plot(found, HERE / "snr.png")
    print("\n".join(markdown(found)))
    for part in ("depth", "gradient"):
        print(part, *found.get(part, []), sep="\n  ")


def markdown(found: dict[str, Any]) -> Iterator[str]:
    """Each kind of network beside another, over the seeds of both."""
    yield "| part, threat (images) | networks | seeds | mIoU of one | of the other | difference | p: images | seeds |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, line in found.items():
        for pair, gained in line["differences"].items() if isinstance(line, dict) else ():
            sides = (
                ", ".join(f"{100 * line['networks'][f'{network}-{seed}']['miou']:.1f}" for seed in gained["seeds"])
                for network in pair.split(" - ")
            )
            change = f"{100 * gained['gain']:+.1f} [{100 * gained['low']:+.1f}, {100 * gained['high']:+.1f}]"
            start = f"{name} ({gained['images']}) | {pair} | {', '.join(gained['seeds'])}"
            p = gained["t_over_seeds_p"]
            ps = f"{gained['wilcoxon_p']:.2g} | " + ("" if p is None else f"{p:.2g}")
            yield f"| {start} | {' | '.join(sides)} | {change} | {ps} |"


if __name__ == "__main__":
    main()
