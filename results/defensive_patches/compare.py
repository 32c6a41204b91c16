"""Many sets of patches side by side, in little time: python compare.py SETS OUT.json [--data D] [--made-on M ...].

The same images, draws and counts as `vallum patch evaluate`, of the rates that tell sets apart, without its rows on
disk. Each set is added to the file when it is done; those that are there already are left as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vallum import load_data, load_model
from vallum.defences.defensive_patches import PatchSet
from vallum.defences.defensive_patches.wearing import Alone, Grey, Nothing, Own, Wear, Wrong
from vallum.evaluation.evaluator import choose
from vallum.evaluation.statistics import difference, share
from vallum.images import Batch
from vallum.threats import threat

CORRUPTIONS = ("gaussian_noise:5", "impulse_noise:5", "fog:5", "contrast:5")
ATTACK = "pgd:eps={eps}/255,steps=10,loss=margin,early_stop=true"


def said(models: dict[str, Any], batch: Batch, wear: Wear, specs: tuple[str, ...]) -> dict[str, np.ndarray]:
    """(conditions, N): what each model answers."""
    shown = wear.show(batch.images, batch.labels, batch.keys)
    pictures = [threat(spec)(None, shown, batch.labels, batch.keys) for spec in specs]
    with torch.no_grad():
        return {name: np.stack([model(one).argmax(1).numpy() for one in pictures]) for name, model in models.items()}


def judge(patches: PatchSet, models: dict[str, Any], batch: Batch, few: int, eps: int, bare: dict[str, Any]) -> Any:
    labels, wrong = batch.labels.numpy(), Wrong(patches)
    own = said(models, batch, Own(patches), ("clean", *CORRUPTIONS))
    alone = said(models, batch, Alone(patches), CORRUPTIONS)
    worn = wrong.worn(batch.labels, batch.keys).numpy()
    other = None if patches.universal else said(models, batch, wrong, ("clean", *CORRUPTIONS))
    part = Batch(batch.images[:few], batch.labels[:few], batch.keys[:few], batch.names[:few])
    shown, found = Own(patches).show(part.images, part.labels, part.keys), {}
    for name, model in models.items():
        right = (own[name][1:] == labels).mean(0)
        fallen = threat(ATTACK.format(eps=eps))(model, shown, part.labels, part.keys)
        with torch.no_grad():
            left = (model(fallen).argmax(1) == part.labels).double().numpy()
        row = {
            "clean": cell(own[name][0] == labels),
            "own": cell(right),
            "gain": between(bare[name]["right"], right),
            "alone": cell((alone[name] == labels).mean(0)),
            "attacked": cell(left),
            "gain attacked": between(bare[name]["left"], left),
        }
        if other is not None:
            taken = (other[name][1:] == worn).mean(0)
            row |= {"hijacked": cell(taken), "hijacked clean": cell(other[name][0] == worn)}
            row |= {"kept": cell((other[name][1:] == labels).mean(0)), "selectivity": between(taken, right)}
        found[name] = row
    return found


def cell(values: np.ndarray) -> list[float]:
    at = share(np.asarray(values, float))
    return [round(one, 4) for one in (at.value, at.low, at.high)]


def between(first: np.ndarray, second: np.ndarray) -> list[float]:
    at, p = difference(first, second)
    return [round(float(one), 4) for one in (at.value, at.low, at.high)] + [float(f"{p:.2g}")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="builtin:signs")
    parser.add_argument("--made-on", nargs="+", default=["builtin:signs_resnet", "builtin:signs_resnet_robust"])
    parser.add_argument("--held-out", nargs="*", default=["builtin:signs_vit", "builtin:signs_vit_robust"])
    parser.add_argument("-n", type=int, default=215)
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--eps", type=int, default=4, help="of the attack, in 1/255")
    told = parser.parse_args()
    torch.set_num_threads(1)
    models = {name: load_model(name) for name in (*told.made_on, *told.held_out)}
    data = load_data(told.data)
    batch = data.batch(choose(len(data), told.n, 0))
    results = json.loads(told.out.read_text()) if told.out.is_file() else {}
    folders = sorted(one.parent for one in told.sets.glob("*/vallum.json"))
    first = PatchSet.load(folders[0])
    labels, bare = batch.labels.numpy(), {}
    for name, answers in said(models, batch, Nothing(first), ("clean", *CORRUPTIONS)).items():
        part = Batch(batch.images[: told.few], batch.labels[: told.few], batch.keys[: told.few], [])
        fallen = threat(ATTACK.format(eps=told.eps))(models[name], part.images, part.labels, part.keys)
        with torch.no_grad():
            left = (models[name](fallen).argmax(1) == part.labels).double().numpy()
        bare[name] = {"right": (answers[1:] == labels).mean(0), "left": left, "clean": answers[0] == labels}
    grey = said(models, batch, Grey(first), CORRUPTIONS)
    results["none"] = {
        name: {"clean": cell(one["clean"]), "own": cell(one["right"]), "attacked": cell(one["left"]),
               "grey": cell((grey[name] == labels).mean(0))} for name, one in bare.items()
    }  # fmt: skip
    for folder in folders:
        patches = PatchSet.load(folder)
        if results.get(folder.name, {}).get("weights") == patches.fingerprint:
            continue
        began = time.process_time()
        found = judge(patches, models, batch, told.few, told.eps, bare)
        made = {
            "maker": patches.made.get("maker"),
            "passes": patches.made.get("passes"),
            "weights": patches.fingerprint,
        }
        results[folder.name] = {**found, **made}
        told.out.write_text(json.dumps(results, indent=1))
        print(f"{folder.name}: {time.process_time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
