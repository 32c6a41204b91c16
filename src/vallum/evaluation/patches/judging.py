"""The one way in for judging patches: their gain, and beside it all that would gain as much without helping to see."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from vallum.bars import estimated
from vallum.data import load_data
from vallum.defences.defensive_patches.make import make_patches
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.wearing import Own, Wearing
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.evaluator import _device, _models
from vallum.evaluation.patches import figures, tables
from vallum.evaluation.patches.counting import CLEAN, Counting
from vallum.evaluation.patches.kept import Kept
from vallum.evaluation.patches.parts import Part, Wanted, of_models, others, parts, read_threats
from vallum.evaluation.patches.saying import says
from vallum.evaluation.run import Run
from vallum.evaluation.sections import Rates, Section
from vallum.evaluation.store import write_text
from vallum.images import Task
from vallum.models.model import Model
from vallum.threats import threat
from vallum.threats.base import Threat

CORRUPTIONS = ("gaussian_noise:3", "impulse_noise:3", "defocus_blur:3", "fog:3", "contrast:3", "jpeg_compression:3",
               "gaussian_noise:5", "defocus_blur:5", "contrast:5")  # fmt: skip
ATTACK, RADII = "pgd:eps=4/255,steps=20,loss=margin", (1 / 255, 2 / 255, 8 / 255, 32 / 255)
FILE = "patches.json"
UNDER_CORRUPTIONS, CLEAN_AND_ATTACKED = "Defensive patches under corruptions", "Defensive patches, clean and attacked"


@dataclass(frozen=True)
class Judged:
    """What was measured: a run, whose sections say what the patches are worth, and how that was found out."""

    folder: Path
    run: Run
    counting: Counting

    @property
    def sections(self) -> list[Section]:
        return sections.read(self.folder)

    @property
    def headlines(self) -> list[Rates]:
        """Under corruptions, and on clean and attacked images."""
        titles = (UNDER_CORRUPTIONS, CLEAN_AND_ATTACKED)
        return [one for one in self.sections if isinstance(one, Rates) and one.title in titles]

    @property
    def says(self) -> tuple[str, ...]:
        return says(self.counting)


def evaluate_patches(
    patches: str | Path | PatchSet,
    models: Any,
    data: Any,
    *,
    out: str | os.PathLike[str],
    held_out: Any = (),
    beside: Mapping[str, Any] | None = None,
    corruptions: Sequence[str | Threat] = CORRUPTIONS,
    attack: str | Threat = ATTACK,
    radii: Sequence[float] = RADII,
    marker: str = "aruco",
    n: int = 400,
    few: int = 129,
    each_patch: bool = True,
    retrain: int = 0,
    train_data: Any = None,
    left_out: int = 0,
    seed: int = 0,
    batch_size: int = 128,
    workers: int = 1,
    device: str = "auto",
    progress: bool = True,
) -> Judged:
    """What patches are worth to the `models` they were made on and to those `held_out`, beside every control.

    `n` images meet the `corruptions`, applied after the patch; `few` of them what is dear: attacks, label-free rules,
    patches askew, and each patch on each image. `beside` are other sets of patches by name, as a universal one or those
    of an earlier method. With `retrain` epochs each model also learns from images of `train_data` that wear their
    patches; with `left_out` steps patches are made anew without each model in turn. Killed and called again with the
    same arguments, it goes on where it stood.

        evaluate_patches("runs/patches", ["builtin:signs_resnet"], "builtin:signs", held_out=["builtin:signs_vit"],
                         out="runs/judged").says
    """
    own = patches if isinstance(patches, PatchSet) else PatchSet.load(patches)
    where = _device(device)
    known, strangers = _models(models), _models(held_out) if held_out else {}
    for name in strangers:
        if name in known:
            raise UserError(f"{name} is given as one that patches were made on, and as held out", remedy="choose")
    named = {name: model.to(where) for name, model in {**known, **strangers}.items()}
    images = load_data(data)
    _check(own, images, named)
    sets = {name: one if isinstance(one, PatchSet) else PatchSet.load(one) for name, one in (beside or {}).items()}
    for name, one in sets.items():
        _check(one, images, named, f"{name}: ")
    if (retrain or left_out) and train_data is None:
        raise UserError("no images to train on are given", "others than those judged on", "--train-data DATA")
    wanted = Wanted(
        own, Kept(images), named, sets, read_threats(corruptions, ("corruption", "noise"), "corruption"),
        read_threats([threat(attack)], ("attack",), "attack")[0], tuple(radii), marker, min(n, len(images)),
        min(few, n, len(images)), each_patch, seed,
    )  # fmt: skip
    if not wanted.corruptions:
        raise UserError("no corruption is given", "one at least", "leave it out for a set of them")
    folder, further = Path(out), [f"{name}, retrained" for name in named] if retrain else []
    todo = parts(wanted)
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "device": device, "workers": workers}
    counting = Counting(folder, wanted, list(strangers), further)
    # What must be made first comes last, when all else is known.
    _work(todo, folder, how, progress)
    if retrain:
        trained = _retrained(wanted, load_data(train_data), retrain, folder, device, not progress)
        _work(of_models(wanted, trained, "retrained"), folder, how, progress)
    if left_out:
        for name in named:
            if len(named) > 1:
                one = _without(name, wanted, load_data(train_data), left_out, folder, device, not progress)
                _work(others(wanted, f"without {name}", one), folder, how, progress)
    facts = {"patches": own.made.get("maker", ""), "weights": own.fingerprint, "made on": list(known),
             "held out": list(strangers), "beside": {name: one.fingerprint for name, one in sets.items()}}  # fmt: skip
    write_text(folder / FILE, json.dumps(facts, indent=1))
    for section in conclude(counting):
        sections.write(folder, section)
    return Judged(folder, Run(folder), counting)


def conclude(c: Counting) -> list[Section]:
    """Every section that the parts which are there are enough for."""
    found: list[Section | None] = [
        tables.headline(c, c.corrupted, UNDER_CORRUPTIONS, says(c)),
        tables.headline(c, [CLEAN], CLEAN_AND_ATTACKED),
        tables.controls(c, c.corrupted, "Controls under corruptions"),
        tables.controls(c, [CLEAN], "Controls on clean images"),
        tables.pairs(c, c.corrupted, "Its own patch against each control, under corruptions"),
        tables.pairs(c, [CLEAN], "Its own patch against each control, on clean images"),
        tables.sets(c),
        tables.attacks(c),
        tables.replaced(c),
        tables.retrained(c),
        figures.by_radius(c),
        *figures.disturbed(c),
        figures.by_corruption(c),
        figures.transfer(c),
        *figures.matrices(c),
        figures.front(c),
    ]
    return [one for one in found if one is not None]


def _check(patches: PatchSet, images: Any, models: Mapping[str, Model], where: str = "") -> None:
    if images.task is not Task.CLASSIFY:
        raise UserError(f"the data are there to {images.task}", "patches tell the class of an object")
    if len(patches.classes) != len(images.classes):
        raise UserError(
            f"{where}patches of {len(patches.classes)} classes", f"the data have {len(images.classes)}", "take its own"
        )
    if not models:
        raise UserError("no model is given", "those that the patches were made on", "--models builtin:signs_resnet")


def _work(todo: list[Part], folder: Path, how: dict[str, Any], progress: bool) -> None:
    with _Bar(todo, progress) as bar:
        for part in todo:
            bar.work(part, folder, how)


def _retrained(wanted: Wanted, data: Any, epochs: int, folder: Path, device: str, quiet: bool) -> dict[str, Model]:
    """Each model after so many epochs on images that wear the patch of their class."""
    import copy

    from vallum.training.loop import train

    worn, found = Wearing(data, Own(wanted.patches), "own patches"), {}
    for number, (name, model) in enumerate(wanted.models.items()):
        where = folder / "retrained" / str(number)
        again = train(
            copy.deepcopy(model), worn, "plain", out=where, epochs=epochs, lr=0.01, device=device, quiet=quiet
        )
        found[f"{name}, retrained"] = again.eval()
    return found


def _without(name: str, wanted: Wanted, data: Any, steps: int, folder: Path, device: str, quiet: bool) -> PatchSet:
    """Patches as these, made on all the models but this one."""
    made = wanted.patches.made
    others = {other: model for other, model in wanted.models.items() if other != name}
    settings = {**made.get("settings", {}), "steps": steps, "seed": wanted.seed}
    kind = {one: made[one] for one in ("colours", "scenes") if one in made}
    number = list(wanted.models).index(name)
    return make_patches(
        others, data, made.get("maker", "ensemble"), shape=wanted.patches.shape or "ring",
        fineness=wanted.patches.fineness, out=folder / "left_out" / str(number), device=device, quiet=quiet,
        **kind, **settings,
    )  # fmt: skip


class _Bar:
    """One bar over all parts; a line for each where there is no terminal."""

    def __init__(self, todo: Sequence[Part], shown: bool) -> None:
        self.console, self.shown = Console(file=sys.stderr), shown
        self.total, self.count, self.done, self.number = sum(one.weight for one in todo), len(todo), 0.0, 0
        self.bar = estimated(self.console, shown)

    def __enter__(self) -> _Bar:
        self.bar.start()
        self.task = self.bar.add_task("patches", total=self.total)
        self.started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def work(self, part: Part, folder: Path, how: dict[str, Any]) -> None:
        self.number += 1
        self.bar.update(self.task, description=f"{self.number} of {self.count}: {part.name}"[:40])
        part.work(folder, **how)
        self.done += part.weight
        self.bar.update(self.task, completed=self.done)
        if self.shown and not self.console.is_terminal:
            left = (time.monotonic() - self.started) * (self.total - self.done) / self.done
            self.console.print(f"{self.number} of {self.count}: {part.name}, about {left:.0f} s left", highlight=False)


__all__ = ["Judged", "evaluate_patches"]
