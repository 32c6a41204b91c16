"""The models that a command names, under the names that its tables call them."""

from __future__ import annotations

import os
from typing import Any

import torch

import vallum
from vallum.errors import UserError
from vallum.models.model import Model, Wrapped
from vallum.models.request import Request, make_model

Numbers = list[float] | None


def load(
    sources: dict[str, str], mean: Numbers, std: Numbers, given: dict[str, Any]
) -> tuple[dict[str, Model], list[str]]:
    """These models, and those among them that keep a normalisation of their own.

    Mean and std are for the models that have none of their own; where each has one, they replace it.
    """
    if mean is std is None or len(sources) == 1:
        return {name: vallum.load_model(one, mean=mean, std=std, **given) for name, one in sources.items()}, []
    otherwise = Request.of(**given, otherwise=(mean, std))
    models = {name: make_model(source, otherwise) for name, source in sources.items()}
    kept = [name for name, model in models.items() if not _has(model, mean or [0.0], std or [1.0])]
    if len(kept) < len(models):
        return models, kept
    for name, source in sources.items():
        try:
            models[name] = vallum.load_model(source, mean=mean, std=std, **given)
        except UserError as problem:
            raise UserError(f"{name}: {problem.wrong}", problem.expected, problem.remedy) from None
    return models, []


def _has(model: Model, mean: list[float], std: list[float]) -> bool:
    """Whether a model has this normalisation."""
    if not isinstance(model, Wrapped):
        return False
    pairs = ((model.mean, mean), (model.std, std))
    return all(torch.equal(one.flatten().cpu(), torch.tensor(numbers)) for one, numbers in pairs)


def named_in(models: list[str]) -> dict[str, str]:
    """Sources by the names that tables call them: NAME=SOURCE, or the source itself."""
    named: dict[str, str] = {}
    for text in models:
        name, equals, source = text.partition("=")
        if not equals or any(mark in name for mark in ":/?") or os.path.exists(text):  # an = of the source's own
            name, source = text, text
        if not name.strip():
            raise UserError(f"{text!r} has an empty name", remedy="write NAME=SOURCE, or the source alone")
        if name in named:
            raise UserError(f"two models are called {name}", remedy="name them: first=SOURCE second=SOURCE")
        named[name] = source
    return named
