"""Fitted threats outside a run: what `eps_star` and `transfer_matrix` fit them on, how, and what is judged."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vallum.data import Data, load_data
from vallum.defences.base import Defence, surfaces_of
from vallum.defences.chance import drawing, settled
from vallum.errors import UserError
from vallum.evaluation.evaluator import _check, _device, choose
from vallum.evaluation.fitting import Source, source
from vallum.evaluation.measure import fresh
from vallum.models import Model, load_model
from vallum.threats import threat as make_threat
from vallum.threats.universal.base import Fitted
from vallum.threats.universal.found import Found
from vallum.threats.universal.goals import accuracy_left

DRAWS = 10  # of a model that draws at random, for each image that it is judged on
VERDICT = 1_000_003  # added to the seed: what is judged draws otherwise than what was attacked


@dataclass(frozen=True)
class Setting:
    """Models, looked at as `evaluate` looks at them, and which images are for what."""

    models: dict[str, Model]
    data: Data
    attack: Fitted
    chosen: list[int]  # the images that are evaluated
    where: Source  # those that the threat is fitted on: one fold
    like: Tensor  # (1, C, H, W) one of the images
    seed: int
    batch_size: int


def setting(
    models: Mapping[str, Any], data: Any, threat: str | Fitted, n: int | None, seed: int, batch_size: int, device: str
) -> Setting:
    """`n` images to evaluate on, all without it; half of them at most, unless the threat names data of its own."""
    attack = make_threat(threat) if isinstance(threat, str) else threat
    if not isinstance(attack, Fitted):
        raise UserError(f"{attack.spec} is fitted to no model", remedy="give universal, with what it takes")
    loaded, images = {name: load_model(model) for name, model in models.items()}, load_data(data)
    most = len(images) if attack.data is not None else len(images) // 2
    if len(images) and not most:
        raise UserError("there is one image", "some to fit on, and others to evaluate on", "give more")
    chosen = choose(len(images), most if n is None else min(n, most), seed)
    first = next((one for index in chosen if len(one := images.batch([index]))), None)
    if first is None:
        raise UserError(f"none of the {len(chosen)} images could be read", remedy="check the data set, or take another")
    _check(loaded, [attack], images, chosen[:batch_size], _device(device))
    where = source(attack, images, chosen, seed)
    if len(where.folds) > 1:
        where = replace(where, folds=[sorted(set(range(len(images))) - set(chosen))], of={})
    _loud(where.notes)
    return Setting(loaded, images, attack, chosen, where, first.images, seed, batch_size)


def fitted_to(model: Model, attack: Fitted, place: Setting, begun: Mapping[str, Found] | None = None) -> dict[str, Any]:
    """The threat fitted to each surface on which it meets the model, by name, from where it was `begun` there."""
    ready: dict[str, Fitted] = {}
    for surface in surfaces_of(model, thorough=False):
        here = surface.here(attack) if surface.in_union else None
        if isinstance(here, Fitted):
            here = replace(here, found=(begun or {}).get(surface.name))
            with settled(place.seed, model.device), drawing(place.seed, known=surface.known_draw):
                ready[surface.name] = here.fit(fresh(surface, model).through, place.where.data, place.where.folds[0])
    if not ready:
        raise UserError(f"the model has no surface for {attack.spec}", remedy="declare Surface('direct', self) as well")
    return ready


def wrong_on(model: Model, place: Setting, attack: Fitted | None) -> np.ndarray:
    """(N,) the share of each image that the model itself has wrong, in the mean over draws if it draws at random."""
    shares, draws = [], DRAWS if isinstance(model, Defence) and model.draws_at_random else 1
    for start in range(0, len(place.chosen), place.batch_size):
        batch = place.data.batch(place.chosen[start : start + place.batch_size]).to(model.device)
        if not len(batch):
            continue
        images, labels = batch.images, batch.labels
        if attack is not None:
            images, labels = attack.with_labels(model, images, labels, batch.keys)
        judge, wrong = fresh(model, model), []
        for number in range(draws):
            verdict = place.seed + VERDICT
            with settled(verdict + number, model.device), drawing(verdict, number), torch.no_grad():
                answers = judge(images).argmax(1)
            wrong.append(1 - accuracy_left(answers, labels, answers))
        shares.append(torch.stack(wrong).mean(0).cpu().numpy())
    return np.concatenate(shares)


def _loud(notes: Sequence[str]) -> None:
    """Outside a run there is no report that would tell it."""
    for note in notes:
        warnings.warn(note, stacklevel=4)
