"""The one way in for models."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vallum.models.sources  # noqa: F401  its import registers the sources
from vallum.errors import UserError, a
from vallum.images import Task
from vallum.models.making import first_line
from vallum.models.model import PER_CHANNEL, Function, Model
from vallum.models.request import Request, make_model


def load_model(
    source: str | Path | nn.Module | Callable[[Tensor], Any],
    *,
    classes: Sequence[str] | int | None = None,
    task: Task | str | None = None,
    mean: PER_CHANNEL | None = None,
    std: PER_CHANNEL | None = None,
    outputs: str = "logits",
    device: torch.device | str | None = None,
    trust: bool = False,
) -> Model:
    """A model from anywhere: a module or callable, a saved folder, FILE.py:function, timm:resnet18?pretrained=true ...

    `mean` and `std` normalise images in [0, 1], one number or one per channel; sources that know theirs set them.
    `outputs` says what the network returns, "logits" or "probabilities". A network handed over keeps its mode and its
    device; one made here is in eval mode, on the CPU unless `device` says otherwise. `trust=True` lets a saved folder
    name code of yours that builds it. `vallum list` shows every source.

    >>> load_model("net:resnet?classes=43")(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 43])
    """
    request = Request.of(classes, task, mean=mean, std=std, outputs=outputs, trust=trust)
    if isinstance(source, Model):
        model = request.keep(source)
    elif isinstance(source, nn.Module):
        model = request.wrap(source)
    elif isinstance(source, str | os.PathLike):
        model = make_model(os.fspath(source), request)
    elif callable(source) and not isinstance(source, type):
        model = request.wrap(Function(source))
    else:
        raise UserError(
            f"{a(source)} is no model" if not isinstance(source, type) else f"{source} is a class",
            "a torch.nn.Module, a callable from images to logits, or a source as timm:resnet18",
            "make the network first, as load_model(Net())" if isinstance(source, type) else "",
        )
    return model if device is None else model.to(available(device))


def available(device: torch.device | str) -> torch.device:
    """The device of that name, where one can compute on it."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError) as error:
        first = first_line(error).partition(". ")[0]
        raise UserError(f"device {str(device)!r} cannot be used", first, "`vallum doctor` lists devices") from None
    return found
