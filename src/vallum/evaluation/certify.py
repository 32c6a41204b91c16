"""Certified accuracy: on how many images the vote is right and proven to stay so within a radius."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from vallum.bars import estimated
from vallum.data import load_data
from vallum.defences.noisy_modelling.certificate import certifiable
from vallum.defences.noisy_modelling.certificate import certify as certify_one
from vallum.defences.noisy_modelling.de3 import De3
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.evaluator import _device, choose
from vallum.evaluation.statistics import Interval, rate
from vallum.evaluation.store import write_text
from vallum.models import load_model, model_fingerprint

FILE = "certificate.jsonl"  # a line per image and sigma, after one that says what they are of


@dataclass(frozen=True)
class Certified:
    """What was proven of each image: rows with sigma, key, name, label, prediction (none: abstained) and radius."""

    folder: Path
    rows: list[dict[str, Any]]

    @property
    def sigmas(self) -> list[float]:
        return sorted({row["sigma"] for row in self.rows})

    def accuracy(self, radius: float, sigma: float) -> Interval:
        """The share of images that are classified right and proven to stay so within the radius."""
        mine = [row for row in self.rows if row["sigma"] == sigma]
        held = [row["prediction"] == row["label"] and row["radius"] >= radius for row in mine]
        return rate(sum(held), len(held))

    def abstained(self, sigma: float) -> Interval:
        mine = [row["prediction"] is None for row in self.rows if row["sigma"] == sigma]
        return rate(sum(mine), len(mine))

    def radii(self, count: int = 21) -> list[float]:
        """Evenly from 0 to the largest that was proven."""
        longest = max((row["radius"] for row in self.rows), default=0.0) or 1.0
        return [round(float(r), 4) for r in np.linspace(0, longest, count)]


def certify(
    model: Any,
    data: Any,
    *,
    out: str | os.PathLike[str],
    sigma: float | Sequence[float] | None = None,
    n: int | None = None,
    draws: int = 1000,
    first: int = 100,
    alpha: float = 0.001,
    seed: int = 0,
    batch_size: int = 256,
    device: str = "auto",
    progress: bool = True,
) -> Certified:
    """Cohen's CERTIFY for `n` images of the data, at the defence's own sigma or at others.

    Each image takes `first` + `draws` passes through denoiser and model; `draws` bounds the radius that can be proven.
    Killed and called again with the same arguments, it goes on with the image it was at.
    """
    defence, source = load_model(model), load_data(data)
    if not 0 < alpha < 1:
        raise UserError(f"alpha={alpha:g}", "a probability between 0 and 1")
    if not isinstance(defence, De3):
        certifiable(defence)  # which says why not
        raise AssertionError
    levels = [sigma] if isinstance(sigma, int | float) else list(sigma or [defence.sigma])
    tuned = {float(level): certifiable(defence.tuned(sigma=float(level))) for level in levels}
    where = _device(device)
    chosen = choose(len(source), n, seed)
    plan = {
        "model": model_fingerprint(defence.tuned(sigma=1.0)),
        "data": source.fingerprint(chosen),
        "first": first, "draws": draws, "alpha": alpha, "seed": seed,
    }  # fmt: skip
    path = Path(out) / FILE
    rows = _known(path, plan)
    done = {(row["sigma"], row["key"]) for row in rows}
    todo = [(level, index) for level in tuned for index in chosen if (level, index) not in done]
    console = Console(file=sys.stderr)
    with estimated(console, progress) as bar:
        task = bar.add_task("certify", total=len(todo) * (first + draws))
        for level, index in todo:
            batch = source.batch([index]).to(where)
            if not len(batch):
                continue
            found = certify_one(
                tuned[level].to(where).eval(), batch.images[0], index, draws=draws, first=first, alpha=alpha,
                seed=seed, batch_size=batch_size, said=lambda count: bar.advance(task, count),
            )  # fmt: skip
            row = {"sigma": level, "key": index, "name": batch.names[0], "label": int(batch.labels[0])}
            rows.append({**row, **dataclasses.asdict(found)})
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    kept = [row for row in rows if row["sigma"] in tuned and row["key"] in set(chosen)]
    result = Certified(Path(out), kept)
    sections.write(out, curves(result, draws, alpha))
    return result


def curves(found: Certified, draws: int, alpha: float) -> sections.Certified:
    """For the report: a line per sigma."""
    radii = found.radii()
    lines = []
    for sigma in found.sigmas:
        curve = [found.accuracy(radius, sigma) for radius in radii]
        values, low, high = (tuple(getattr(one, part) for one in curve) for part in ("value", "low", "high"))
        lines.append(sections.Line(f"sigma={sigma:g}", values, low, high))
    note = f"{draws} draws of noise per image; each radius is wrong with probability {alpha:g} at most."
    return sections.Certified("Certified accuracy", "2", tuple(radii), tuple(lines), note)


def _known(path: Path, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of an interrupted run of the same plan; a new file begins with the plan."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text("utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break  # what a killed process was about to write
    if not lines:
        write_text(path, json.dumps(plan) + "\n")
        return []
    if lines[0] != plan:
        differing = ", ".join(name for name in plan if lines[0].get(name) != plan[name])
        raise UserError(
            f"{path} holds certificates with another {differing}", remedy="give another out=, or the same arguments"
        )
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))  # without a half line at its end
    return lines[1:]
