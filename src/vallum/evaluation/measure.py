"""One cell: what a model makes of one batch of images under one threat, a row per image."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.data.data import Data
from vallum.defences.base import Defence, Surface, surfaces_of
from vallum.defences.chance import drawing, settled
from vallum.errors import UserError
from vallum.evaluation.passes import Counted
from vallum.evaluation.pictures import keep
from vallum.evaluation.plan import Cell, Plan
from vallum.evaluation.store import Finished
from vallum.images import IGNORE, Batch, Draws, Task, check_images
from vallum.models.model import Model
from vallum.threats.base import Threat
from vallum.threats.energy import realised_snr
from vallum.threats.norms import NORMS, per_image


def measure(
    cell: Cell, plan: Plan, model: Model, data: Data, threat: Threat
) -> tuple[list[dict[str, Any]], Finished, list[Any]]:
    """Search on the surface, verify on the model itself: what counts is the image that was found, in float32.

    A model that draws at random is asked several times, with draws that the attacker has not seen; one that keeps a
    state meets each batch as if it were the first.
    """
    planned = plan.models[cell.model]
    batch = data.batch(cell.images).to(plan.device)
    left_out = {image: why for i in cell.images if (why := data.skipped.get(image := data.name(i))) is not None}
    if not len(batch):
        return [], Finished(0, 0, 0.0, left_out), []
    check_images(batch.images, f"the images of {data.spec or 'the data'}")
    surface = next(s for s in surfaces_of(model) if s.name == cell.surface)
    here = surface.here(threat) if threat.kind == "attack" else threat
    assert here is not None  # the plan has no such cell
    started = time.perf_counter()
    with attacking(plan, cell, surface):
        found, truth, counted = attack(here, fresh(surface, model), batch, plan.seed)
    judge = Counted(fresh(model, model))
    answers = []
    for number in range(1 if surface.known_draw else planned.draws):
        seed = plan.seed if surface.known_draw else _seed(plan, "verdict")
        with (
            settled(_seed(plan, "verdict", cell, number), plan.device),
            drawing(seed, number, surface.known_draw),
            torch.no_grad(),
        ):
            answers.append(judge(found).float())
    logits = torch.stack(answers)  # (draws, N, K, ...)
    unsound = (~torch.isfinite(logits)).transpose(0, 1).flatten(1).any(1)  # (N,)
    if bool(unsound.any()):
        raise UserError(
            f"{planned.name} answers {batch.names[int(unsound.int().argmax())]} with NaN or infinity",
            "logits are finite",
            "check the model's arithmetic",
        )
    seconds = time.perf_counter() - started
    common = {"model": planned.name, "threat": threat.spec, "surface": cell.surface}
    rows = [{**common, "key": int(batch.keys[i]), "name": batch.names[i]} for i in range(len(batch))]
    columns = together([judged(one, truth, model.task) for one in logits])
    for column, values in {**columns, **moved(batch.images, found)}.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[column] = value
    passes = counted.forwards + judge.forwards, counted.backwards
    return rows, Finished(*passes, seconds, left_out), keep(cell, rows, batch, found, truth, logits[0])


@contextmanager
def attacking(plan: Plan, cell: Cell, surface: Surface) -> Iterator[None]:
    """Whatever draws at random in here draws what the cell says, and not what the verdict will meet."""
    with settled(_seed(plan, "attack", cell), plan.device), drawing(plan.seed, known=surface.known_draw):
        yield


T = TypeVar("T")


def fresh(thing: T, model: Model) -> T:
    """The same, or a copy of it where the model keeps a state: so that no batch learns of another."""
    if not (isinstance(model, Defence) and model.keeps_state):
        return thing
    try:
        return copy.deepcopy(thing)
    except (TypeError, RuntimeError) as problem:
        raise UserError(
            f"{type(model).__name__} cannot be copied: {problem}",
            "a defence that keeps a state is copied for each batch",
            "set stateful = False in its class if no call changes what later calls answer",
        ) from None


def _seed(plan: Plan, purpose: str, *parts: Any) -> int:
    """A seed that depends on what is computed, and not on who computes it or when."""
    text = repr((plan.seed, purpose, [part.id if isinstance(part, Cell) else part for part in parts]))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")


def attack(threat: Threat, surface: Surface, batch: Batch, seed: int) -> tuple[Tensor, Tensor, Counted]:
    """What the threat makes of a batch through a surface, verified: images, and inside the ball if there is one.

    With it come the true labels, which differ from the batch's where a corruption moves pixels and their mask along.
    """
    through = Counted(surface.through)
    labels, classes = batch.labels, len(surface.through.classes or "01")
    if threat.targeted:
        labels = targets(labels, classes, Draws(seed, batch.keys))
    truth = batch.labels
    if threat.moves_labels:
        found, truth = threat.with_labels(through, batch.images, labels, batch.keys)
        if threat.targeted:  # what was moved along are the targets
            truth = targets(truth, classes, Draws(seed, batch.keys), back=True)
    else:
        found = threat(through, batch.images, labels, batch.keys)
    found = found.detach().float()
    what = f"what {threat.spec} returns"
    if found.shape != batch.images.shape:
        raise UserError(f"{what} has shape {tuple(found.shape)}", f"{tuple(batch.images.shape)} went in")
    if not bool(found.isfinite().all()):
        raise UserError(
            f"{what} holds NaN or infinity",
            "images, all finite",
            "see where the attack divides by 0 or follows an infinite gradient: torch.nan_to_num mends both",
        )
    check_images(found, what)
    if threat.budget is not None:
        norm, eps = threat.budget.norm, per_image(threat.budget.eps, found).double()
        length = norm.length(found.double() - batch.images.double())
        over = length - eps * (1 + 1e-4) - 1e-6  # float32 cannot place a point nearer to the surface of a ball
        if bool((over > 0).any()):
            worst = int(over.argmax())
            raise UserError(
                f"{threat.spec} moved {batch.names[worst]} by {float(length[worst]):.6g} in norm {norm.name}",
                f"eps is {float(eps[worst]):.6g}",
                "an attack that leaves its ball does not count: mend its projection",
            )
    return found, truth, through


def targets(labels: Tensor, classes: int, draws: Draws, back: bool = False) -> Tensor:
    """Another class for every image, drawn for it alone; in a mask each class is exchanged for one other class.

    `back` takes such targets to the labels that they were made of.
    """
    away = 1 + draws.of("target").integers(classes - 1, purpose="class", device=labels.device)  # (N,)
    other = (labels + (-away if back else away).view(-1, *[1] * (labels.ndim - 1))) % classes
    return other if labels.ndim == 1 else torch.where(labels == IGNORE, labels, other)


def judged(logits: Tensor, labels: Tensor, task: Task) -> dict[str, Tensor]:
    """The columns that say how right the answers are."""
    answers = logits.argmax(1)
    if task is Task.CLASSIFY:
        right = answers == labels
        loss = F.cross_entropy(logits, labels, reduction="none")
        return {"label": labels, "prediction": answers, "correct": right, "accuracy": right.double(), "loss": loss}
    valid = labels != IGNORE  # (N, H, W)
    count = valid.flatten(1).sum(1)
    right = ((answers == labels) & valid).flatten(1).sum(1)
    loss = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").flatten(1).sum(1)
    intersection, union = overlaps(answers, labels, valid, logits.shape[1])
    accuracy = right.double() / count.clamp_min(1)
    return {"accuracy": accuracy, "loss": loss / count.clamp_min(1), "intersection": intersection, "union": union}


def together(draws: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Several answers to the same images as one: the mean of what they score, what most say, and the worst of them."""
    first = draws[0]
    if len(draws) == 1:
        return first
    every = {column: torch.stack([one[column] for one in draws]) for column in first}  # (draws, N, ...)
    joint = {column: every[column].double().mean(0) for column in ("accuracy", "loss")}
    joint["worst"] = every["accuracy"].amin(0)
    if "intersection" in first:
        return {**joint, "intersection": every["intersection"].sum(0), "union": every["union"].sum(0)}
    said = every["prediction"].mode(0).values
    right = said == first["label"]
    return {**joint, "label": first["label"], "prediction": said, "correct": right, "majority": right.double()}


def overlaps(answers: Tensor, labels: Tensor, valid: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pixels of each class that answer and label share, and that either has, per image: two (N, K)."""

    def counts(which: Tensor, mask: Tensor) -> Tensor:
        place = torch.arange(len(which), device=which.device).view(-1, 1, 1) * classes + which
        return torch.bincount(place[mask], minlength=len(which) * classes).view(len(which), classes)

    both = counts(labels, valid & (answers == labels))
    return both, counts(answers, valid) + counts(labels, valid) - both


def moved(images: Tensor, found: Tensor) -> dict[str, Tensor]:
    """The columns that say how far the images were moved."""
    lengths = {f"l{name}": norm.length(found - images) for name, norm in NORMS.items()}
    return {**lengths, "snr": realised_snr(images, found)}
