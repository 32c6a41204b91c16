"""What each model answered on each image of a part, ready to be paired with what it answered in another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vallum.defences.defensive_patches.wearing import Wear
from vallum.evaluation.run import Run
from vallum.evaluation.summary import headlines


@dataclass(frozen=True)
class Answers:
    """Of one model under one threat: arrays with an entry per image, in order of its key."""

    keys: np.ndarray
    labels: np.ndarray
    said: np.ndarray
    right: np.ndarray  # (N,) float: the worst over all surfaces where it was attacked through several

    def at(self, keys: np.ndarray) -> Answers:
        """On these images alone."""
        rows = np.searchsorted(self.keys, keys)
        return Answers(keys, self.labels[rows], self.said[rows], self.right[rows])

    def taken_for_worn(self, wear: Wear) -> np.ndarray:
        """(N,) float: whether the answer is the class of the patch that the image wears."""
        worn = wear.worn(torch.from_numpy(self.labels), torch.from_numpy(self.keys))
        return (self.said == worn.numpy()).astype(float)


Found = dict[tuple[str, str], Answers]  # by model and threat


def answers(folder: Path) -> Found:
    """All that a part's run holds."""
    run = Run(folder)
    rows = run.fetch("SELECT model, threat, key, label, prediction FROM rows ORDER BY key")[1]
    said: dict[tuple[str, str], dict[int, tuple[int, int]]] = {}
    for model, threat, key, label, prediction in rows:
        said.setdefault((model, threat), {}).setdefault(key, (label, prediction))
    found = {}
    for one in headlines(run.outcomes):
        mine = said.get((one.model, one.threat))
        if mine is not None:
            labels, predictions = np.array([mine[int(key)] for key in one.keys]).T
            found[one.model, one.threat] = Answers(one.keys, labels, predictions, one.accuracy)
    return found


def mean_right(found: Found, model: str, threats: list[str], keys: np.ndarray | None = None) -> np.ndarray | None:
    """(N,): on how many of these threats each image is right, as a share."""
    there = [found[model, spec] for spec in threats if (model, spec) in found]
    if not there:
        return None
    return np.mean([(one if keys is None else one.at(keys)).right for one in there], 0)
