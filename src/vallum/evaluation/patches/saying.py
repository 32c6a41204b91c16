"""What patches are worth, in a sentence for each model: never what its own does without what another's does."""

from __future__ import annotations

import numpy as np

from vallum.evaluation.patches.counting import Counting
from vallum.evaluation.statistics import Interval, difference


def says(c: Counting) -> tuple[str, ...]:
    said = []
    for model in c.models:
        own, none, alone = (c.right(part, model, c.corrupted) for part in ("own", "none", "alone"))
        hijack = c.hijacked("wrong", model, c.corrupted)
        if own is None or none is None or alone is None:
            continue
        gain, p = difference(none, own)
        parts = [f"{_percent(own)} right with its own patch"]
        if hijack is not None:
            parts = [
                f"selectivity {_points(difference(hijack, own)[0])}",
                *parts,
                f"{_percent(hijack)} hijacked by another's",
            ]
        parts += [f"{_percent(none)} right without", f"{_percent(alone)} with the patch and no object"]
        text = f"{c.called(model)}: {', '.join(parts)} (mean over {len(c.corrupted)} corruptions)."
        said.append(f"{text} Gain {_points(gain)}: {verdict(own, none, alone, hijack, p)}")
    return tuple(said)


def verdict(own: np.ndarray, none: np.ndarray, alone: np.ndarray, hijack: np.ndarray | None, p: float) -> str:
    """What kind of help it is, if any.

    >>> verdict(np.ones(90), np.zeros(90), np.ones(90), np.ones(90), 0.0)
    'it is the printed label, for the patch does as well without the object.'
    """
    gain = own.mean() - none.mean()
    if p > 0.05:
        return "nothing that chance would not do."
    if gain < 0:
        return "it hurts."
    if alone.mean() >= 0.9 * own.mean():
        return "it is the printed label, for the patch does as well without the object."
    if hijack is not None and hijack.mean() > gain:
        return "it passes off more than it gains."
    return "it gains more than it passes off."


def _percent(values: np.ndarray) -> str:
    return f"{100 * values.mean():.1f} %"


def _points(at: Interval) -> str:
    return f"{100 * at.value:+.1f} points [{100 * at.low:+.1f}, {100 * at.high:+.1f}]"
