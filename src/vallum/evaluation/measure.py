"""One cell: what a model makes of one batch of images under one threat, a row per image."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.data.data import Data
from vallum.defences.base import Surface, surfaces_of
from vallum.errors import UserError
from vallum.evaluation.passes import Counted
from vallum.evaluation.plan import Cell
from vallum.evaluation.store import Finished
from vallum.images import IGNORE, Batch, Draws, Task, check_images
from vallum.models.model import Model
from vallum.threats.base import Threat
from vallum.threats.norms import NORMS, per_image


def measure(
    cell: Cell, name: str, model: Model, data: Data, threat: Threat, seed: int, device: str
) -> tuple[list[dict[str, Any]], Finished]:
    """Search on the surface, verify on the model itself: what counts is the image that was found, in float32."""
    batch = data.batch(cell.images).to(device)
    left_out = {image: why for i in cell.images if (why := data.skipped.get(image := data.name(i))) is not None}
    surface = next(s for s in surfaces_of(model) if s.name == cell.surface)
    if not len(batch):
        return [], Finished(0, 0, 0.0, left_out)
    check_images(batch.images, f"the images of {data.spec or 'the data'}")
    started = time.perf_counter()
    found, truth, counted = attack(threat, surface, batch, seed)
    judge = Counted(model)
    with torch.no_grad():
        logits = judge(found).float()
    if not bool(torch.isfinite(logits).all()):
        bad = batch.names[int((~torch.isfinite(logits)).flatten(1).any(1).int().argmax())]
        raise UserError(
            f"{name} answers {bad} with NaN or infinity", "logits are finite", "check the model's arithmetic"
        )
    seconds = time.perf_counter() - started
    rows = [
        {
            "model": name,
            "threat": threat.spec,
            "surface": cell.surface,
            "key": int(batch.keys[i]),
            "name": batch.names[i],
        }
        for i in range(len(batch))
    ]
    for column, values in {**judged(logits, truth, model.task), **moved(found - batch.images)}.items():
        for row, value in zip(rows, values.tolist(), strict=True):
            row[column] = value
    passes = counted.forwards + judge.forwards, counted.backwards
    return rows, Finished(*passes, seconds, left_out)


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


def overlaps(answers: Tensor, labels: Tensor, valid: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pixels of each class that answer and label share, and that either has, per image: two (N, K)."""

    def counts(which: Tensor, mask: Tensor) -> Tensor:
        place = torch.arange(len(which), device=which.device).view(-1, 1, 1) * classes + which
        return torch.bincount(place[mask], minlength=len(which) * classes).view(len(which), classes)

    both = counts(labels, valid & (answers == labels))
    return both, counts(answers, valid) + counts(labels, valid) - both


def moved(delta: Tensor) -> dict[str, Tensor]:
    return {f"l{name}": norm.length(delta) for name, norm in NORMS.items()}
