"""Batch norm whose statistics stand still is a scale and a shift, and as such costs little on the way back.

Up to rounding the same comes out: on a processor torch multiplies and adds as well, but its backward pass does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def scaled(model: Any) -> Iterator[None]:
    """Meanwhile each batch norm in evaluation mode multiplies and adds, and its weights have no gradient.

    >>> norm, images = nn.BatchNorm2d(3).eval(), torch.rand(2, 3, 4, 4)
    >>> with scaled(norm):
    ...     torch.allclose(norm(images), images / (1 + norm.eps) ** 0.5), norm(images).requires_grad
    (True, False)
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    # A compiled network would be compiled anew for each change.
    compiled = any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in modules)
    changed = [] if compiled else [m for m in modules if _stands_still(m)]
    try:
        for norm in changed:
            norm.forward = _forward(norm)
        yield
    finally:
        for norm in changed:
            norm.__dict__.pop("forward", None)


def _stands_still(module: Any) -> bool:
    known = isinstance(module, nn.BatchNorm2d) and (
        type(module).forward is nn.BatchNorm2d.forward or type(module).__module__.startswith("timm.layers.norm_act")
    )
    return (
        known
        and not module.training
        and module.running_mean is not None
        and module.weight is not None
        and module.running_mean.device.type == "cpu"  # measured there alone
        and "forward" not in module.__dict__
    )


def _forward(norm: Any) -> Callable[[Tensor], Tensor]:
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
