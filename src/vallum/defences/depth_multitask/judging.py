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
    found, true = found.flatten(1), true.flatten(1)
    known = true.isfinite() & (true > 0) & (true < FARTHEST)
    expected, guess = (torch.where(known, values, torch.nan) for values in (true, found))
    guess = guess * (expected.nanmedian(1).values / guess.nanmedian(1).values)[:, None]
    guess = guess.clamp(1e-3, FARTHEST)
    error, close = guess - expected, torch.maximum(guess / expected, expected / guess) < 1.25
    rows = torch.stack(
        [(error.abs() / expected).nanmean(1), error.square().nanmean(1).sqrt(), close.sum(1) / known.sum(1)]
    )
    return dict(zip(("abs_rel", "rmse", "delta"), rows.nanmean(1).tolist(), strict=True))


def constant_errors(true: Tensor) -> dict[str, float]:
    """The figures of the same depth everywhere: what must be beaten."""
    return depth_errors(torch.ones_like(true), true)
