"""A run as large as one likes without any model: rows and pictures drawn from a generator, written by the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vallum.evaluation.pictures import keep, spread
from vallum.evaluation.plan import Plan, PlannedModel, PlannedThreat
from vallum.evaluation.run import Run
from vallum.evaluation.store import Finished, Store
from vallum.images import Batch

CORRUPTIONS = ("fog", "snow", "frost", "contrast", "pixelate", "motion_blur", "zoom_blur", "brightness")
SPECS = (
    *((f"gaussian:std={s}", "noise") for s in (0.05, 0.1, 0.2, 0.3)),
    *((f"{name}:{s}", "corruption") for name in CORRUPTIONS for s in (1, 3)),
    *((f"pgd:eps={e}/255", "attack") for e in (1, 2, 4, 8)),
)  # with clean 25: for two models 50 cells of a grid


def large_run(folder: Path, images: int, *, side: int = 32, classes: int = 43, shard: int = 1000) -> Run:
    """Two models under twenty-five threats."""
    models = tuple(PlannedModel(name, "", name, ("direct",), ()) for name in ("plain", "hardened"))
    threats = (PlannedThreat("clean", "clean", False, 1), *(PlannedThreat(s, k, k == "attack", 1) for s, k in SPECS))
    names = tuple(f"class {place}" for place in range(classes))
    every = tuple(range(images))
    settings: dict[str, Any] = {"batch_size": shard, "threads": 1, "device": "cpu", "seed": 0}
    plan = Plan(
        models, threats, "made up", "0", "classify", names, every, **settings, pictures=tuple(spread(every, 24))
    )
    store = Store(folder)
    store.begin(plan)
    for cell in plan.cells():
        rows = _rows(plan, cell)
        kept: list[dict[str, Any]] = [row for row in rows if row["key"] in cell.pictures]
        before = torch.stack([_random(side, row["key"]) for row in kept]) if kept else torch.zeros(0, 3, side, side)
        change = torch.stack([_random(side, row["key"], cell.threat) for row in kept]) if kept else before
        after = (before + 0.4 * (change - 0.5)).clamp(0, 1) if cell.threat else before
        keys = torch.tensor([row["key"] for row in kept])
        batch = Batch(before, keys, keys, [str(row["key"]) for row in kept])
        store.write_pictures(cell, keep(cell, kept, batch, after, keys, torch.zeros(len(kept), classes)))
        store.write(cell, rows, Finished(len(rows), 0, 1.0, {}))
    run = Run(folder)
    run.conclude({"command": "vallum evaluate ..."}, {})
    return run


def _random(side: int, *seed: int) -> torch.Tensor:
    """An image of noise: what compresses worst."""
    return torch.from_numpy(np.random.default_rng(seed).random((3, side, side), np.float32))


def _rows(plan: Plan, cell: Any) -> list[dict[str, Any]]:
    generator = np.random.default_rng([cell.model, cell.threat, cell.images[0]])
    threat = plan.threats[cell.threat]
    share = 0.95 - 0.03 * cell.threat * (1 - 0.6 * cell.model)
    right = generator.random(len(cell.images)) < share
    named = {"model": plan.models[cell.model].name, "threat": threat.spec, "surface": "direct"}
    moved = {"linf": 0.1, "l2": 1.0, "l1": 5.0, "snr": 40.0 - cell.threat if cell.threat else float("inf")}
    return [
        {
            **named,
            **moved,
            "key": key,
            "name": str(key),
            "label": key % len(plan.classes),
            "prediction": (key + (not fine)) % len(plan.classes),
            "correct": bool(fine),
            "accuracy": float(fine),
            "loss": 1.0,
        }
        for key, fine in zip(cell.images, right, strict=True)
    ]
