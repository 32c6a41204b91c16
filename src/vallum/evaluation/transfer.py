"""What a universal perturbation found for one model does to the others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vallum.data import load_data
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.evaluator import choose
from vallum.evaluation.fitting import source
from vallum.evaluation.radius import wrong_on
from vallum.evaluation.statistics import Interval, mean_iou, rate
from vallum.models import load_model
from vallum.threats import threat as make_threat
from vallum.threats.universal.base import Fitted


@dataclass(frozen=True)
class Transfer:
    """`left[i][j]`: the accuracy of model j under what was found for model i; the last row is without any."""

    names: list[str]
    left: list[list[Interval]]
    found: dict[str, Fitted]  # by the model it was found for, ready for use
    threat: str
    images: int

    @property
    def section(self) -> sections.Matrix:
        """As the report draws it."""
        widest = max((one.high - one.low) / 2 for row in self.left for one in row)
        return sections.Matrix(
            f"{self.threat} found for one model, met by another",
            "found for",
            "met by",
            (*self.names, "nothing"),
            tuple(self.names),
            tuple(tuple(one.value for one in row) for row in self.left),
            note=f"What is left, on {self.images} images on which nothing was fitted; intervals of 95 % reach at most "
            f"{100 * widest:.1f} points to either side.",
        )


def transfer_matrix(
    models: Mapping[str, Any],
    data: Any,
    threat: str | Fitted = "universal",
    *,
    n: int | None = 500,
    seed: int = 0,
    batch_size: int = 64,
    out: str | os.PathLike[str] | None = None,
) -> Transfer:
    """Fit the threat to each model, and try what was found on all of them, on the same images.

    With `out`, the folder of a run, the matrix is in that run's report from then on.

    transfer_matrix({"plain": "builtin:signs_resnet", "robust": "builtin:signs_resnet_robust"}, "builtin:signs").left
    """
    attack = make_threat(threat) if isinstance(threat, str) else threat
    if not isinstance(attack, Fitted):
        raise UserError(f"{attack.spec} is fitted to no model", remedy="give universal, with what it takes")
    loaded, images = {name: load_model(model) for name, model in models.items()}, load_data(data)
    chosen = choose(len(images), n if n is None else min(n, len(images) // 2), seed)
    where = source(attack, images, chosen, seed)
    if len(where.folds) > 1:
        where = replace(where, folds=[sorted(set(range(len(images))) - set(chosen))])
    found = {name: attack.fit(model, where.data, where.folds[0]) for name, model in loaded.items()}
    rows: list[Fitted | None] = [*found.values(), None]
    left = [[_left(1 - wrong_on(model, images, chosen, one, batch_size)) for model in loaded.values()] for one in rows]
    made = Transfer(list(loaded), left, found, attack.spec, len(chosen))
    if out is not None:
        sections.write(out, made.section)
    return made


def _left(right: Any) -> Interval:
    """A rate of whole images, or the mean over images of the share of their pixels."""
    if set(right.tolist()) <= {0.0, 1.0}:
        return rate(int(right.sum()), len(right))
    return mean_iou(right[:, None], right[:, None] * 0 + 1)
