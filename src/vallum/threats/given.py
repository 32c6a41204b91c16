"""Mistakes in what an attack is given, labels and a model, each with its remedy."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from vallum.errors import UserError
from vallum.images import IGNORE


def check_labels(labels: Tensor, images: Tensor, model: Any = None) -> None:
    """Raise a UserError that names the remedy unless `labels` are classes, one per image or one per pixel.

    >>> check_labels(torch.tensor([3, 1]), torch.rand(2, 3, 8, 8))
    >>> check_labels(torch.tensor([3, -1]), torch.rand(2, 3, 8, 8))
    Traceback (most recent call last):
    vallum.errors.UserError: label -1: classes are numbered from 0; leave images without a label out
    """
    if not isinstance(labels, Tensor):
        raise UserError(f"labels are a {type(labels).__name__}", "a torch.Tensor is needed", "use torch.as_tensor")
    if labels.ndim not in (1, 3) or len(labels) != len(images):
        one_too_many = labels.ndim in (2, 4) and labels.shape[1] == 1
        raise UserError(
            f"labels have shape {tuple(labels.shape)}",
            f"({len(images)},) for a classifier, ({len(images)}, H, W) for a segmenter",
            "use labels[:, 0]" if one_too_many else "give one for each image",
        )
    if labels.dtype != torch.long:
        raise UserError(f"labels are {labels.dtype}", "classes are torch.int64", "use labels.long()")
    if labels.device != images.device:
        raise UserError(
            f"labels are on {labels.device}, images on {images.device}", remedy="use labels.to(images.device)"
        )
    if labels.numel() and int(lowest := labels.min()) < 0:
        ignored = f"pixels to ignore are {IGNORE}" if labels.ndim == 3 else "leave images without a label out"
        raise UserError(f"label {int(lowest)}", "classes are numbered from 0", ignored)
    classes = getattr(model, "classes", None)
    if isinstance(classes, tuple | list):
        check_known(labels, len(classes))


def check_known(labels: Tensor, classes: int) -> None:
    """Raise a UserError where a label is none of as many classes as the model tells apart."""
    known = labels if labels.ndim == 1 else labels[labels != IGNORE]
    if known.numel() and int(highest := known.max()) >= classes:
        raise UserError(
            f"label {int(highest)}",
            f"0 to {classes - 1}: the model tells {classes} classes apart",
            "number the classes as the model does",
        )


@contextmanager
def explained(model: Any, images: Tensor, labels: Tensor) -> Iterator[None]:
    """Within, an error that comes of labels or of a model as no attack takes them says so; nothing is asked before."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        try:
            with torch.no_grad():
                logits = model(images[:1])
        except Exception:  # the model's own, which says best itself what it lacks
            logits = None
        if logits is not None:
            try:
                _check_logits(logits, labels)
            except UserError as said:
                raise said from error
        raise


def _check_logits(logits: Any, labels: Tensor) -> None:
    if not isinstance(logits, Tensor):
        key = repr(next(iter(logits), "logits")) if isinstance(logits, dict) else "0"
        raise UserError(
            f"the model returns a {type(logits).__name__}",
            "logits are needed, a tensor",
            f"attack lambda images: model(images)[{key}], or wrap the model",
        )
    wanted = "(N, K)" if labels.ndim == 1 else "(N, K, H, W)"
    if logits.ndim != labels.ndim + 1 or len(logits) != 1:
        raise UserError(
            f"the model returns {tuple(logits.shape)} for one image",
            f"logits {wanted} are needed with labels of shape {tuple(labels.shape)}",
            "keep the batch axis, and give a classifier labels of images, a segmenter labels of pixels",
        )
    if not logits.is_floating_point():
        raise UserError(f"the model returns {logits.dtype}", "logits are floats", "return them before the argmax")
    check_known(labels, logits.shape[1])


@contextmanager
def untaught(norms: list[_BatchNorm]) -> Iterator[None]:
    """Batch norm that learns its statistics does not learn them from an attack; what it answers is the same."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def learning(model: Any, stacklevel: int) -> list[_BatchNorm]:
    """The batch norms that would learn from what they are shown; warns where the whole model is in training mode."""
    if not isinstance(model, nn.Module):
        return []
    training = [m for m in model.modules() if m.training and isinstance(m, _BatchNorm | _DropoutNd)]
    if model.training and training:
        warnings.warn(
            f"the model is attacked in training mode: with {type(training[0]).__name__} an answer depends on the rest "
            "of the batch or on chance; call model.eval()",
            stacklevel=stacklevel + 1,
        )
    return [m for m in training if isinstance(m, _BatchNorm) and m.track_running_stats]
