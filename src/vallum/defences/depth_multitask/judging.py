"""Whether depth was learnt: figures beside those of somebody who has not looked at the picture."""

from __future__ import annotations

import torch
from torch import Tensor

FARTHEST = 80.0  # metres: beyond that, figures say little


def depth_errors(found: Tensor, true: Tensor) -> dict[str, float]:
    """Means over images of the usual figures, depths (N, H, W); each image is brought to its true median first.

    abs_rel: |found - true| / true; rmse in the unit of the truth; delta: the share within a factor of 1.25.

    >>> true = torch.tensor([[[2.0, 4.0, 8.0]]])
    >>> {name: round(value, 3) for name, value in depth_errors(true * 3, true).items()}
    {'abs_rel': 0.0, 'rmse': 0.0, 'delta': 1.0}
    """
    rows = []
    for one, other in zip(found, true, strict=True):
        known = other.isfinite() & (other > 0) & (other < FARTHEST)
        if not bool(known.any()):
            continue
        expected = other[known]
        guess = one[known]
        guess = (guess * (expected.median() / guess.median())).clamp(1e-3, FARTHEST)
        ratio = torch.maximum(guess / expected, expected / guess)
        error = guess - expected
        rows.append(
            torch.stack([(error.abs() / expected).mean(), error.square().mean().sqrt(), (ratio < 1.25).float().mean()])
        )
    means = torch.stack(rows).mean(0).tolist() if rows else [float("nan")] * 3
    return dict(zip(("abs_rel", "rmse", "delta"), means, strict=True))


def constant_errors(true: Tensor) -> dict[str, float]:
    """The figures of the same depth everywhere: what must be beaten."""
    return depth_errors(torch.ones_like(true), true)
