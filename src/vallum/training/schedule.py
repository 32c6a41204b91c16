"""How the learning rate goes: its share of the highest one, as a function of the step and nothing else."""

from __future__ import annotations

import math

from vallum.training.settings import Settings


def share(settings: Settings, step: int, steps: int) -> float:
    """What the learning rate of weight step `step`, counted from 0, of `steps` is multiplied by.

    >>> settings = Settings(schedule="cosine", warmup=0.5)
    >>> [round(share(settings, step, 8), 2) for step in range(8)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    rising = round(settings.warmup * steps)
    if settings.schedule == "one_cycle":  # both halves are cosines, from 1/25 to 1 and down to 1/250000
        peak = settings.warmup * steps - 1
        if step <= peak:
            return _between(1 / 25, 1.0, step / peak if peak > 0 else 1.0)
        return _between(1.0, 1 / 250_000, (step - peak) / max(steps - 1 - peak, 1e-9))
    if step < rising:
        return (step + 1) / rising
    if settings.schedule == "constant":
        return 1.0
    return _between(1.0, 0.0, (step - rising) / (steps - rising))


def _between(start: float, end: float, way: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * min(way, 1.0))) / 2
