"""What the model is worth in the middle of its training, in float32 and without augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vallum.images import IGNORE, Task
from vallum.models.model import Model
from vallum.threats.base import Threat
from vallum.training.loader import Cache
from vallum.training.processes import sum_of


def validate(
    model: Model, cache: Cache, indices: np.ndarray, batch_size: int, fabric: Any, threat: Threat | None = None
) -> dict[str, float]:
    """Accuracy on the images at `indices`, under `threat` if there is one; for a segmenter the mean IoU too."""
    mine = indices[fabric.global_rank :: fabric.world_size]
    classes = len(cache.data.classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=fabric.device)  # label by prediction
    for start in range(0, len(mine), batch_size):
        batch = cache.batch(mine[start : start + batch_size].tolist()).to(fabric.device)
        if not len(batch):
            continue
        images = batch.images
        if threat is not None:
            images = threat(model, images, batch.labels, batch.keys)
        with torch.no_grad():
            predicted = model(images).argmax(1)
        counts += confusion(predicted, batch.labels, classes)
    return scores(sum_of(fabric, counts), cache.data.task)


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(K, K): how often label i was taken for class j, over whatever is labelled."""
    known = torch.ones_like(labels, dtype=torch.bool) if labels.ndim == 1 else labels != IGNORE
    pairs = labels[known] * classes + predicted[known]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def scores(counts: Tensor, task: Task) -> dict[str, float]:
    """From a confusion matrix; the mean IoU is over the classes that are there, in the labels or in the answers.

    >>> scores(torch.tensor([[3, 1], [0, 4]]), Task.SEGMENT)
    {'accuracy': 0.875, 'miou': 0.775}
    """
    hits, total = counts.diagonal().double(), counts.sum()
    result = {"accuracy": float(hits.sum() / total.clamp_min(1))}
    if task is Task.SEGMENT:
        union = counts.sum(0) + counts.sum(1) - counts.diagonal()
        result["miou"] = float((hits / union)[union > 0].mean()) if total else 0.0
    return result
