"""Batch norm whose statistics stand still is a scale and a shift, and as such costs little on the way back.

Up to rounding the same comes out: on a processor torch multiplies and adds as well, but its backward pass does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def stands_still(module: Any) -> bool:
    """Whether it is a batch norm in evaluation mode that does what torch's or timm's do."""
    known = isinstance(module, nn.BatchNorm2d) and (
        type(module).forward is nn.BatchNorm2d.forward or type(module).__module__.startswith("timm.layers.norm_act")
    )
    return known and not module.training and module.running_mean is not None and module.weight is not None


def scaled(norm: Any) -> Callable[[Tensor], Tensor]:
    """The norm's forward pass as one multiplication and one addition; its weights have no gradient."""
    with torch.no_grad():
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = norm.bias - norm.running_mean * scale
    scale, shift = scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)
    # What timm's batch norms do afterwards.
    after = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None]

    def forward(x: Tensor) -> Tensor:
        if x.dtype != scale.dtype or norm.training:  # in half the bits, or switched on within
            return type(norm).forward(norm, x)
        x = torch.addcmul(shift, x, scale)
        for part in after:
            x = part(x)
        return x

    return forward
