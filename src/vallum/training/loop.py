"""The one way in for training."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from vallum.data import Data, load_data
from vallum.defences.recipe import KEPT, Recipe
from vallum.defences.recipe import recipe as make_recipe
from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.machine import command
from vallum.models import Model, load_model, save_model
from vallum.training.checkpoint import FILE, read_checkpoint
from vallum.training.loader import held_out
from vallum.training.processes import make_fabric, spawns
from vallum.training.settings import Settings
from vallum.training.worker import Job, Worker, lay_out, reproducible


def train(
    model: Any,
    data: Any,
    recipe: str | Recipe = "plain",
    *,
    out: str | Path,
    validation: Any = 0.1,
    device: str = "auto",
    devices: int = 1,
    fresh: bool = False,
    quiet: bool = False,
    build: str | None = None,
    **settings: Any,
) -> Model:
    """Train `model` on `data`, as `recipe` says; the trained model comes back, and is saved in the folder `out`.

    `model` and `data` are what `load_model` and `load_data` take; a model object is trained in place. Further
    arguments are those of `Settings`. `validation` is the share of the images held out to watch it on, or data of
    their own. Killed and called again with the same arguments it goes on from its last checkpoint, to the same
    weights bit for bit; `fresh=True` starts over. `build` names a source of the architecture, for a model made in
    Python.

        train("net:resnet", "builtin:signs?split=train&n=30000", "adversarial:eps=8/255", out="runs/robust", epochs=20)
    """
    chosen, how = make_recipe(recipe), Settings.of(**settings)
    images = data if isinstance(data, Data) else load_data(data)
    share = float(validation) if isinstance(validation, int | float) else None
    watched = images if share is not None else validation if isinstance(validation, Data) else load_data(validation)
    network = model if isinstance(model, Model) else _made(model, images, how.seed)
    _check(network, images, watched)
    if images.task not in chosen.trains:
        raise UserError(
            f"{chosen.spec.partition(':')[0]} is for {', '.join(chosen.trains)}", f"the data are to {images.task}"
        )
    folder = _writable(out)
    if build and not network.build:
        network.build, build = build, None  # what a recipe puts around it names it
    network = _around(chosen, network, images, how.seed)
    for name, first, its_own in chosen.before():
        where: dict[str, Any] = {"out": folder / name, "validation": watched if share is None else share}
        same: dict[str, Any] = {"device": device, "devices": devices, "fresh": fresh, "quiet": quiet}
        train(network, images, first, **where, **same, **{**settings, **its_own})
    if fresh:
        (folder / FILE).unlink(missing_ok=True)
    indices, watch = held_out(images, share or 0.0, how.seed)
    if share is None:
        watch = np.arange(len(watched))
    plan = {
        **how.binding(),
        "recipe": chosen.spec,
        "model": network.build or type(network).__name__,
        "network": _layout(network),
        "data": images.fingerprint(range(len(images))),
        "validation": share if share is not None else watched.fingerprint(range(len(watched))),
    }
    read_checkpoint(folder, plan)  # to refuse another run's before processes start
    fabric = make_fabric(device, devices, how.precision)
    job = Job(network, images, indices, watched, watch, chosen, how, folder, plan, quiet)
    try:
        seconds, findings, kept = fabric.launch(functools.partial(_work, job=job))
    except torch.multiprocessing.ProcessRaisedException as error:
        raise _as_mistake(error) or error from None
    if spawns(fabric):
        state = read_checkpoint(folder, plan)
        assert state is not None
        network.load_state_dict(state["average"] or state["model"])
        network.classes = network.classes or images.classes
        network.eval()
    findings = {**findings, **_settled(chosen, network, images, indices, how.batch_size)}
    if fabric.is_global_zero:
        facts = {
            "command": command(),
            "recipe": chosen.spec,
            "settings": dataclasses.asdict(how),
            "data": {"spec": images.spec, "fingerprint": plan["data"], "images": len(indices)},
            "validation": {"spec": watched.spec, "fingerprint_or_share": plan["validation"], "images": len(watch)},
            "findings": findings,
            "seconds": round(seconds, 1),
            "device": str(fabric.device),
            "processes": fabric.world_size,
        }
        _save(network, folder, build, facts)
        if kept:
            write_whole(folder / KEPT, lambda path: path.write_bytes(save(kept)))  # save_file's would be private
        if "failed" in findings:
            raise UserError(
                f"{chosen.spec} has failed: {findings['failed']}",
                f"what was trained is in {folder}, its findings in vallum.json",
                "do not report it as what the recipe promises",
            )
    return network


def harden(model: Any, data: Any, recipe: str | Recipe, *, out: str | Path, **options: Any) -> Model:
    """Train `model` with a defence: `train`, whose options it takes, with a recipe that must be said.

    harden("runs/plain", "folder:photos", "shared_training:eps=8/255,sharedness=64", out="runs/robust", epochs=10)
    """
    return train(model, data, recipe, out=out, **options)


def _made(source: Any, data: Data, seed: int) -> Model:
    """With as many outputs as the data have classes; one that starts at random starts as the seed says."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return load_model(source, classes=data.classes)


def _around(chosen: Recipe, network: Model, data: Data, seed: int) -> Model:
    """What a recipe puts around the model starts as the seed says."""
    first = data.batch(range(min(8, len(data))))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return chosen.around(network, first.images)


def _settled(chosen: Recipe, network: Model, data: Data, indices: np.ndarray, batch_size: int) -> dict[str, Any]:
    """What the recipe makes of clean training images at the end."""
    some = indices[: chosen.settles_on].tolist()
    if not some:
        return {}
    batches = (data.batch(some[start : start + batch_size]) for start in range(0, len(some), batch_size))
    return chosen.settle(network, (batch.to(network.device) for batch in batches if len(batch)))


def _work(fabric: Any, job: Job) -> tuple[float, dict[str, Any], dict[str, Tensor]]:
    """What each process does: the seconds, and what the recipe finds and keeps."""
    if spawns(fabric):
        job.model = copy.deepcopy(job.model)  # what came has its memory in common with the other processes
    with reproducible():
        try:
            worker = Worker(fabric, job)
            seconds = worker.run()
            kept = {name: tensor.detach().cpu().contiguous() for name, tensor in worker.kept.items()}
            return seconds, worker.findings, kept
        finally:
            lay_out(job.model.eval(), torch.contiguous_format)


def _check(model: Model, data: Data, watched: Data) -> None:
    """What would be wrong with any settings."""
    if not len(data) or not len(watched):
        raise UserError("there are no images", remedy="check what --data names and selects")
    if not model.task_known:
        model.settle_task(data.task)
    for other, where in ((model, "the model's"), (watched, "the validation data's")):
        if other.task != data.task:
            raise UserError(
                f"{where} task is {other.task}, the data's {data.task}",
                "both must be the same",
                "give task= to load_model or load_data",
            )
        if other.classes is not None and len(other.classes) != len(data.classes):
            raise UserError(
                f"{where} classes number {len(other.classes)}, the data's {len(data.classes)}",
                "both must be the same",
                f"make the model with classes={len(data.classes)}, or load other data",
            )


def _writable(out: str | Path) -> Path:
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
        for half in folder.glob(f".{FILE}.*"):  # what a killed process was about to write
            half.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to", error.strerror or str(error), "give another out=") from None
    return folder


def _layout(model: Model) -> str:
    """A short hash of what tensors the model has, whatever is in them."""
    text = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items())
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _as_mistake(error: Exception) -> UserError | None:
    """The UserError that a process of ours ended with, of which only the traceback's text comes back."""
    _, marker, text = str(error).rpartition(f"{UserError.__module__}.{UserError.__name__}: ")
    return UserError(text.strip()) if marker else None


def _save(model: Model, folder: Path, build: str | None, facts: dict[str, Any]) -> None:
    if build or model.build:
        save_model(model, folder, build=build, training=facts)
        return
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    print(
        f"{folder} holds the weights only, as this model was made in Python; give train(..., build='file.py:function') "
        "to save what load_model can load",
        file=sys.stderr,
    )
