"""What a universal perturbation found for one model does to the others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vallum.evaluation import sections
from vallum.evaluation.outside import Setting, fitted_to, setting, wrong_on
from vallum.evaluation.statistics import Interval, mean_iou, rate
from vallum.models import Model
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
    device: str = "auto",
    out: str | os.PathLike[str] | None = None,
) -> Transfer:
    """Fit the threat to each model, and try what was found on all of them, on the same images.

    `n` images of `data` are evaluated, and the threat is fitted on the others, or on what it names as its `data`. What
    stands for a defence is what leaves least of it, of all that is found through its surfaces. With `out`, the folder
    of a run, the matrix is in that run's report from then on.

    transfer_matrix({"plain": "builtin:signs_resnet", "robust": "builtin:signs_resnet_robust"}, "builtin:signs").left
    """
    place = setting(models, data, threat, n, seed, batch_size, device)
    found = {name: _worst(model, place) for name, model in place.models.items()}
    rows: list[Fitted | None] = [*found.values(), None]
    left = [[_left(1 - wrong_on(model, place, one)) for model in place.models.values()] for one in rows]
    made = Transfer(list(place.models), left, found, place.attack.spec, len(place.chosen))
    if out is not None:
        sections.write(out, made.section)
    return made


def _worst(model: Model, place: Setting) -> Fitted:
    """Of what is found through the surfaces of a defence what leaves least of it."""
    ready = list(fitted_to(model, place.attack, place).values())
    return ready[0] if len(ready) == 1 else max(ready, key=lambda one: float(wrong_on(model, place, one).mean()))


def _left(right: Any) -> Interval:
    """A rate of whole images, or the mean over images of the share of their pixels."""
    if set(right.tolist()) <= {0.0, 1.0}:
        return rate(int(right.sum()), len(right))
    return mean_iou(right[:, None], right[:, None] * 0 + 1)
