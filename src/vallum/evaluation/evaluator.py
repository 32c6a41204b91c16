"""Evaluate models on images under threats: make the plan, work its cells, sum up what the rows say."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vallum.data import load_data
from vallum.data.data import Data
from vallum.defences.base import Defence, declares_chance, surfaces_of, ways_into
from vallum.errors import UserError
from vallum.evaluation import fitting
from vallum.evaluation.adding import join, of_this_call
from vallum.evaluation.measure import fresh
from vallum.evaluation.pictures import spread
from vallum.evaluation.plan import Fit, Plan, PlannedModel, PlannedThreat
from vallum.evaluation.progress import Progress
from vallum.evaluation.run import Run
from vallum.evaluation.store import Store
from vallum.evaluation.summary import UNION
from vallum.evaluation.workers import Job, here, in_processes, on_ray
from vallum.images import Task, check_images
from vallum.machine import command, machine
from vallum.models import check_model, load_model, model_fingerprint, weights_fingerprint
from vallum.models.load import available
from vallum.models.model import Model
from vallum.threats import Budget, Threat, threat
from vallum.threats.universal.base import Fitted, Perturbation


def evaluate(
    models: str | nn.Module | Sequence[str | nn.Module] | dict[str, Any],
    data: Any,
    threats: Any = ("gaussian:std=0.1", "pgd:eps=4/255"),
    *,
    out: str | os.PathLike[str] | None = None,
    n: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    ray: str | None = None,
    adaptive: Literal["default", "full"] = "default",
    draws: int = 10,
    undefended: bool = True,
    pictures: int = 24,
    progress: bool = True,
) -> Run:
    """Measure what is left of each model's accuracy under each threat, on the same images with the same draws.

    `models` is one model or several, as anything that `load_model` takes, or a dict of names for the tables; `data` is
    anything that `load_data` takes; `n` images of it are drawn evenly by the seed. `threats` are specs, threats, your
    own functions `(model, images, labels) -> images`, or attack objects of other libraries. Whatever was finished when
    a run was interrupted is kept: the same call with the same `out` goes on from there, and ends with the same rows.

    A defence is attacked through each surface that it declares, with `adaptive="full"` also through those that are
    dear, and asked `draws` times about what was found where it draws at random. The bare model beneath it is measured
    beside it unless `undefended` is False.

    Of `pictures` of the images, spread evenly, it is kept what each threat made of them, for the report to show.

    `workers` processes share the work; a script calls this under `if __name__ == "__main__":` where there are several.
    """
    named, source, wanted = _models(models), load_data(data), _threats(threats, seed)
    if adaptive not in ("default", "full"):
        raise UserError(f"adaptive={adaptive!r}", "default or full")
    counts = {"batch_size": batch_size, "workers": workers, "threads": threads, "draws": draws}
    for what, number in counts.items():
        if number < 1:
            raise UserError(f"{what}={number}", "at least 1 is needed")
    for what, number in (("seed", seed), ("pictures", pictures)):
        if number < 0:
            raise UserError(f"{what}={number}", "0 or more is needed")
    if undefended:
        named = with_undefended(named)
    device = _device(device)
    images = choose(len(source), n, seed)
    notes = _check(named, wanted, source, images[:batch_size], device)
    for place, one in enumerate(wanted):
        if isinstance(one, Perturbation):
            wanted[place], doubts = one.meeting(source, images)
            notes += doubts
    fitted_on = {one.spec: fitting.source(one, source, images, seed) for one in wanted if isinstance(one, Fitted)}
    notes += [note for where in fitted_on.values() for note in where.notes]
    costs = _costs(named, source, images[:8], device)
    plan = Plan(
        models=tuple(_planned(name, model, wanted, adaptive == "full", draws) for name, model in named.items()),
        threats=tuple(_planned_threat(t, fitted_on.get(t.spec), source.task) for t in wanted),
        data=source.spec,
        data_fingerprint=source.fingerprint(images),
        task=source.task,
        classes=tuple(source.classes),
        images=tuple(images),
        batch_size=batch_size,
        threads=threads,
        device=device.split(":")[0],
        seed=seed,
        pictures=tuple(spread(images, pictures)),
    )
    store = Store(Path(out) if out is not None else Path("runs") / plan.id)
    joined = join(plan, store.read_plan(), store)
    plan = joined.plan
    store.begin(plan)
    earlier: dict[str, Any] = {}
    with suppress(UserError):  # damaged, it is written anew
        earlier = Run(store.folder).environment

    job = Job(plan, store, list(named.values()), wanted, source)
    cells = of_this_call(joined, [*plan.fits(), *plan.cells()])
    todo = [cell for cell in cells if not store.is_done(cell)]
    started = time.time()
    with Progress(cells, todo, plan, shown=progress) as bar:
        for fits in (True, False):  # what is fitted is fitted before any image meets it
            now = [cell for cell in todo if isinstance(cell, Fit) == fits]
            if ray is not None and now:
                on_ray(job, now, bar.done, ray)
            elif workers == 1 or len(now) < 2:
                here(job, now, bar.done)
            else:
                in_processes(job, now, bar.done, workers)
    run = Run(store.folder)
    notes += _idle(run, wanted)
    notes += [note for note in joined.notes(earlier) if note not in notes]
    costs = {**{name: cost for name, cost in earlier.get("costs", {}).items() if name in joined.models}, **costs}
    took = {"workers": workers, "seconds": round(time.time() - started, 1)}
    finished = time.strftime("%Y-%m-%d %H:%M:%S %z")
    run.conclude(
        {"command": command(), **machine(), **took, "finished": finished, "notes": notes, "costs": costs},
        _no_images(source),
    )
    if not run.measured:
        why = next(iter(run.left_out.values()), "")
        raise UserError(f"none of the {len(images)} images could be read", why, "check the data set, or take another")
    return run


def _idle(run: Run, wanted: Sequence[Threat]) -> list[str]:
    """Attacks that gave images back as they were, which looks like robustness and need not be."""
    attacks = {one.spec for one in wanted if one.kind == "attack" and not _empty(one.budget)}
    return [
        f"{model}: {spec} left {left} of {all_of_them} images as they were, for it found nothing: its goal may be out "
        "of its steps' reach, or its loss without a gradient"
        for model, spec, left, all_of_them in run.left_alone
        if spec in attacks
    ]


def _empty(budget: Budget | None) -> bool:
    return budget is not None and not bool(torch.as_tensor(budget.eps).any())


def choose(total: int, n: int | None, seed: int) -> list[int]:
    """`n` of `total` images, drawn by the seed, in order; all of them without `n`."""
    if total == 0:
        raise UserError("the data set is empty", remedy="check its path and split")
    if n is None or n == total:
        return list(range(total))
    if not 0 < n <= total:
        raise UserError(f"n={n} images are asked for", f"the data set has {total}", "leave n out for all of them")
    return sorted(np.random.default_rng(seed).permutation(total)[:n].tolist())


def _models(models: Any) -> dict[str, Model]:
    if isinstance(models, str | nn.Module) or not isinstance(models, Iterable):
        models = [models]
    if not models:
        raise UserError("no model is given", remedy="name at least one")
    if isinstance(models, dict):
        return {name: load_model(source) for name, source in models.items()}
    named: dict[str, Model] = {}
    for source in models:
        model = load_model(source)
        name = source if isinstance(source, str) else model.spec or type(getattr(model, "network", model)).__name__
        short = Path(name).name if os.path.exists(name) else name
        if short in named:
            raise UserError(f"two models are called {short}", remedy="give them names: {'first': ..., 'second': ...}")
        named[short] = model
    return named


def with_undefended(named: dict[str, Model]) -> dict[str, Model]:
    """Beside each defence the model beneath it, unless that is there already."""
    there = {weights_fingerprint(model) for model in named.values() if not isinstance(model, Defence)}
    found: dict[str, Model] = {}
    for name, model in named.items():
        if isinstance(model, Defence) and (mark := weights_fingerprint(model.bare)) not in there:
            there.add(mark)
            found[_free(f"{name}, undefended", named)] = model.bare
        found[name] = model
    return found


def _free(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "'"
    return name


def _threats(threats: Any, seed: int) -> list[Threat]:
    """Clean first, each once; the run's seed goes to those that have none of their own."""
    given = [threats] if isinstance(threats, str) or not isinstance(threats, Iterable) else list(threats)
    wanted: dict[str, Threat] = {}
    for one in ["clean", *given]:
        parsed = threat(one)
        if seed and parsed.seed == 0:
            parsed = replace(parsed, seed=seed)  # type: ignore[type-var]
        wanted.setdefault(parsed.spec, parsed)
    return list(wanted.values())


def _check(
    named: dict[str, Model], wanted: Sequence[Threat], source: Data, first: Sequence[int], device: str
) -> list[str]:
    """Look at the first batch before the hours begin; what is doubtful but no mistake comes back as notes."""
    batch = source.batch(first).to(device)
    if len(batch):
        check_images(batch.images, f"the images of {source.spec or 'the data'}")
    notes: list[str] = []
    for name, model in named.items():
        with _naming(name):
            model.settle_task(source.task)
            if len(batch):
                looked_at = fresh(model.to(device), model)
                doubts = check_model(looked_at, batch.images, batch.labels, source.classes, ways_into(looked_at))
                model.classes, model.differentiable = looked_at.classes, looked_at.differentiable
                notes += [f"{name}: {doubt}" for doubt in doubts]
        if isinstance(model, Defence) and model.draws_at_random and not declares_chance(model):
            notes.append(
                f"{name} does not declare whether it draws at random, and is taken to: `randomised = False` in its "
                "class says that it does not, and saves most of the passes"
            )
        for one in wanted:
            if model.task is Task.SEGMENT:
                one.check_for_masks()
            else:
                one.check_for_classes()
            if one.needs_gradient and not model.differentiable:
                raise UserError(
                    f"{one.spec} needs gradients, {name} gives none",
                    remedy="use a black-box attack, as random_search:eps=8/255",
                )
    return notes


def _costs(named: dict[str, Model], source: Data, first: Sequence[int], device: str) -> dict[str, dict[str, float]]:
    """What each defence costs at test time; a few images are enough to know."""
    defences = {name: model for name, model in named.items() if isinstance(model, Defence)}
    batch = source.batch(first).to(device) if defences else None
    if batch is None or not len(batch):
        return {}
    return {name: asdict(fresh(model, model).cost(batch.images)) for name, model in defences.items()}


def _planned(name: str, model: Model, wanted: Sequence[Threat], thorough: bool, draws: int) -> PlannedModel:
    surfaces = surfaces_of(model, thorough)
    names = [UNION, *(surface.name for surface in surfaces)]
    if len(set(names)) < len(names):
        raise UserError(
            f"{name} declares the surfaces {', '.join(names[1:])}",
            f"each has a name of its own, and none is called {UNION}",
            "rename them in its attack_surfaces",
        )
    attacks = [one for one in wanted if one.kind == "attack"]
    met = {(s.name, one.spec): s.here(one) for s in surfaces for one in attacks}
    useless = tuple(pair for pair, here in met.items() if here is None)
    unfitted = []
    for one in attacks:
        for surface in surfaces:
            here = met[surface.name, one.spec]
            if one.fits and here is not None and not here.fits:
                unfitted.append((surface.name, one.spec))
            if here is not None and here.fits and not one.fits:
                raise UserError(
                    f"on surface {surface.name} of {name} {one.spec} becomes {here.spec}",
                    "that is fitted to the model on other images before, and only what is asked for is",
                    f"ask for {here.spec} itself",
                )
        if not any(s.in_union and (s.name, one.spec) not in useless for s in surfaces):
            raise UserError(f"{name} has no surface for {one.spec}", remedy="declare Surface('direct', self) as well")
    return PlannedModel(
        name,
        model.spec,
        model_fingerprint(model),
        tuple(s.name for s in surfaces),
        tuple(s.name for s in surfaces if not s.knows_defence),
        tuple(s.weight for s in surfaces),
        tuple(s.name for s in surfaces if not s.in_union),
        useless,
        tuple(unfitted),
        draws if isinstance(model, Defence) and model.draws_at_random else 1,
    )


def _planned_threat(one: Threat, where: fitting.Source | None, task: Task) -> PlannedThreat:
    passes, fingerprint = 0.0, one.fingerprint
    if isinstance(one, Fitted):
        assert where is not None
        passes, fingerprint = one.fitting_passes * len(where.folds), where.fingerprint
    each = one.passes_for(task is Task.SEGMENT)
    return PlannedThreat(one.spec, one.kind, one.kind == "attack", each, passes, fingerprint)


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(available(name))


def _no_images(source: Data) -> dict[str, str]:
    """What was left out when the data set was listed and is no image of it, as an empty folder: no cell meets it."""
    images = {source.name(i) for i in range(len(source))} if source.skipped else set()
    return {name: why for name, why in source.skipped.items() if name not in images}


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Puts a model's name in front of what is wrong with it."""
    try:
        yield
    except UserError as problem:
        raise UserError(f"{name}: {problem.wrong}", problem.expected, problem.remedy) from None
