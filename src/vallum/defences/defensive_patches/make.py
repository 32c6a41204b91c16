"""The one way in for making patches."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vallum.data import Data, load_data
from vallum.defences.base import Defence
from vallum.defences.defensive_patches.colours import Colours
from vallum.defences.defensive_patches.colours import colours as make_colours
from vallum.defences.defensive_patches.keeping import FILE, keep, kept
from vallum.defences.defensive_patches.makers import Consensus, Maker, Prior
from vallum.defences.defensive_patches.makers import maker as make_maker
from vallum.defences.defensive_patches.making import Making, Printer, State, around_the_middle, fine
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.pictures import Pictures
from vallum.defences.defensive_patches.scenes import Scenes
from vallum.defences.defensive_patches.scenes import scenes as make_scenes
from vallum.defences.defensive_patches.settings import Settings
from vallum.defences.defensive_patches.shapes import Shape
from vallum.defences.defensive_patches.shapes import shape as make_shape
from vallum.defences.defensive_patches.sheet import contact_sheet
from vallum.defences.defensive_patches.watching import Watching
from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.images import Batch, Task
from vallum.machine import command, machine
from vallum.models import load_model
from vallum.models.checks import check_model
from vallum.models.load import available
from vallum.models.model import Model
from vallum.models.state import tensors_fingerprint
from vallum.threats.fast import folded, in_bfloat16

SHEET = "sheet.png"
EVERY = 20.0  # seconds between savings of a search
PRIOR_STEPS, PRIOR_HASTE = 40, 2.5  # on signs no better after 100 steps, nor at the pace of the others


def make_patches(
    models: Any,
    data: Any,
    maker: str | Maker = "ensemble",
    *,
    shape: str | Shape = "ring",
    colours: str | Colours = "box",
    scenes: str | Scenes = "plain",
    fineness: int = 1,
    start: str | PatchSet | None = None,
    printer: Printer | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    fresh: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> PatchSet:
    """Patches with which these models see what is in these images, one for each class, all made in one search.

    `models` is what `load_model` takes, several of them in a list, or by name; `data` what `load_data` takes. `maker`
    says what patches are for: "ensemble", "selective:wrong=1", "minmax:eps=4/255", ...; `shape` what they cover;
    `colours` what they may look like; `scenes` what happens between a patch and the picture of it, "outdoors" say.
    With `fineness=4` a patch has 4 x 4 pixels for each of the images'. `start` is "noise", "prior" (the patch alone
    first), or patches or their folder to go on from; None: what suits the maker. `printer` takes colours as sent to a
    printer to those that a camera sees. Further arguments are those of `Settings`.

    With `out` the patches are saved there, with a contact sheet; killed and called again, the search goes on.

        make_patches(["builtin:signs_resnet", "builtin:signs_vit"], "builtin:signs?split=train", out="runs/patches")
    """
    what, chosen = make_maker(maker), Settings.of(**settings)
    networks = _named(models)
    images = data if isinstance(data, Data) else load_data(data)
    if what.single and len(networks) > 1:
        raise UserError(f"{what.spec} with {len(networks)} models", "it serves one", "take ensemble for several")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    place = available(automatic if device == "auto" else device)
    pictures = Pictures(images, chosen.images, chosen.seed, place)
    networks = {name: network.to(pictures.device) for name, network in networks.items()}
    first = pictures.batch(pictures.select[:8])
    height, width = first.images.shape[2:]
    form = make_shape(shape)
    outline = around_the_middle(form.mask(height, width))
    mask = fine(outline, _at_least_one(fineness)).to(pictures.device)
    if isinstance(what, Consensus) and what.merge == "gram" and fineness > 1:
        raise UserError(f"{what.spec} with fineness={fineness}", "Grams are of patch and image together", "merge=mean")
    if first.images.shape[1] != 3:
        raise UserError(f"images of {first.images.shape[1]} channels", "patches are in colour", "channels=3")
    searched = {name: _searched(network, first, images, chosen) for name, network in networks.items()}

    looks, seen = make_colours(colours), make_scenes(scenes)
    begin = start or what.start
    if begin not in ("noise", "prior"):
        begin = begin if isinstance(begin, PatchSet) else PatchSet.load(begin)
    plan = {
        "maker": what.spec,
        "shape": form.spec,
        "colours": looks.spec,
        "scenes": seen.spec,
        "fineness": fineness,
        "start": begin.fingerprint if isinstance(begin, PatchSet) else begin,
        "printer": _printer(printer, pictures.device),
        "settings": dataclasses.asdict(chosen),
        "models": {name: _identity(network) for name, network in networks.items()},
        "data": {"spec": images.spec, "fingerprint": images.fingerprint(pictures.fit + pictures.select)},
    }
    folder = None if out is None else Path(out)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        if fresh:
            (folder / FILE).unlink(missing_ok=True)
    state = None if folder is None else kept(folder, plan, pictures.device)
    search = functools.partial(
        Making, searched, pictures, mask=mask, fineness=fineness, colours=looks, scenes=seen, printer=printer
    )
    if state is None and begin != "noise":
        begun, earlier = _begun(begin, what, chosen, search, len(images.classes), quiet)
        making = search(maker=what, settings=chosen, start=begun)
        making.state.passes, making.state.seconds = earlier
    else:
        making = search(maker=what, settings=chosen)
        making.state = state or making.state
    patches = _run(making, folder, plan, quiet)
    classes = images.classes
    found = PatchSet(patches.cpu() * mask.cpu(), mask.cpu(), classes, (height, width), fineness, form.spec)
    found.made = _made(making, plan, networks)
    if folder is not None:
        found.save(folder)
        sheet = contact_sheet(found, _examples(pictures, len(classes)))
        write_whole(folder / SHEET, lambda path: sheet.save(path, "PNG"))
    return found


def _run(making: Making, folder: Path | None, plan: dict[str, Any], quiet: bool) -> Tensor:
    saved = time.monotonic()
    with Watching(making.maker.spec.partition(":")[0], making.settings.steps, quiet) as watching:
        watching.begin(making.state)

        def after(state: State, loss: float) -> None:
            nonlocal saved
            watching.step(state, loss)
            if folder is not None and (time.monotonic() - saved > EVERY or state.step == making.settings.steps):
                keep(state, folder, plan)
                saved = time.monotonic()

        try:
            return making.run(after)
        except BaseException:
            if folder is not None and making.state.step:
                keep(making.state, folder, plan)
            raise


def _begun(
    begin: str | PatchSet, what: Maker, settings: Settings, search: Callable[..., Making], classes: int, quiet: bool
) -> tuple[Tensor, tuple[float, float]]:
    """Numbers that a search begins from, and the passes and seconds that it took to find them."""
    if isinstance(begin, PatchSet):
        making = search(maker=what, settings=settings)
        wanted = (making.classes, *making.mask.shape)
        if (len(begin), *begin.mask.shape) != wanted:
            raise UserError(
                f"patches to start from are {len(begin)} of {tuple(begin.mask.shape)}",
                f"{wanted[0]} of {wanted[1:]} are looked for",
                "give the same shape and fineness, or start=noise",
            )
        return making.colours.of(begin.patches.to(making.mask)), (0.0, 0.0)
    if what.universal:
        raise UserError("start=prior for one patch for all classes", "a prior is of a class", "start=noise")
    # No image is seen, so that a step needs each class once and no more.
    size = min(settings.batch_size, classes)
    how = dataclasses.replace(
        settings, steps=PRIOR_STEPS, batch_size=size, optimizer="adam", schedule="cosine", lr=None, looks=1, watch=size
    )
    making = search(maker=Prior(), settings=how)
    making.lr *= PRIOR_HASTE
    found = _run(making, None, {}, quiet)
    return making.colours.of(found), (making.state.passes, making.state.seconds)


def _named(models: Any) -> dict[str, Model]:
    if isinstance(models, Mapping):
        named = dict(models)
    elif isinstance(models, Sequence) and not isinstance(models, str):
        named = {}
        for number, model in enumerate(models):
            name = model if isinstance(model, str) else getattr(model, "spec", "") or f"model {number + 1}"
            named[name if name not in named else f"{name} ({number + 1})"] = model
    else:
        named = {models if isinstance(models, str) else getattr(models, "spec", "") or "model": models}
    if not named:
        raise UserError("no model", "one at least, as builtin:signs_resnet")
    return {name: load_model(model) for name, model in named.items()}


def _searched(model: Model, batch: Batch, data: Data, settings: Settings) -> Any:
    """What the search asks in place of the model: the same function, in less time, with a gradient."""
    if model.task is not Task.CLASSIFY:
        raise UserError(f"{model.spec or type(model).__name__} is there to {model.task}", "a classifier is needed")
    check_model(model, batch.images, batch.labels, data.classes)
    if not model.differentiable:
        raise UserError(
            f"{model.spec or type(model).__name__} has no gradient", "patches follow it", "make them on another model"
        )
    if isinstance(model, Defence):
        ways = list(model.stand_ins())
        return model.through(ways[0]) if ways else model
    quick = folded(model, batch.images)
    return _Quick(in_bfloat16(quick) if settings.precision == "bf16-mixed" else quick)


class _Quick(nn.Module):
    """What computes a model's answers faster; no weight of it is trained."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


def _identity(model: Model) -> dict[str, str]:
    return {"spec": model.spec, "weights": tensors_fingerprint(dict(model.state_dict()))}


def _printer(printer: Printer | None, device: torch.device) -> str:
    """What it does to a few colours, as a fingerprint."""
    if printer is None:
        return "none"
    shades = torch.linspace(0, 1, 48, device=device).view(1, 3, 4, 4)
    with torch.no_grad():
        return hashlib.blake2b(printer(shades).double().cpu().numpy().tobytes(), digest_size=8).hexdigest()


def _made(making: Making, plan: dict[str, Any], networks: dict[str, Model]) -> dict[str, Any]:
    state = making.state
    best = min(state.history, key=lambda row: row["loss"])
    return {
        **plan,
        "command": command(),
        "versions": machine()["versions"],
        "told": {name: best[f"right {name}"] for name in networks},  # how often, on images it was chosen by
        "best_step": int(best["step"]),
        "passes": round(state.passes),
        "seconds": round(state.seconds, 1),
        "device": str(making.pictures.device),
        "history": state.history,
    }


def _examples(pictures: Pictures, classes: int) -> Tensor | None:
    """(C, 3, H, W): an image of each class; None where one cannot be read."""
    batch = pictures.batch([int(pictures.by_class[one][0]) for one in range(classes)])
    return batch.images.cpu() if len(batch) == classes else None


def _at_least_one(fineness: int) -> int:
    if fineness < 1:
        raise UserError(f"fineness={fineness}", "a patch has one pixel at least for each of the images'")
    return fineness
