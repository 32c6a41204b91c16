"""A network while it is attacked: what torch is slow at on the way back to the image is computed otherwise.

What comes out is the same up to rounding, and put back is whatever was changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vallum.threats.patchwise import cuts_patches, patchwise
from vallum.threats.scaled import scaled, stands_still


@contextmanager
def eased(model: Any) -> Iterator[None]:
    """Meanwhile batch norms in evaluation mode multiply and add, and patches of the image get their slope by a product.

    >>> import torch
    >>> norm, images = nn.BatchNorm2d(3).eval(), torch.rand(2, 3, 4, 4)
    >>> with eased(norm):
    ...     torch.allclose(norm(images), images / (1 + norm.eps) ** 0.5), norm(images).requires_grad
    (True, False)
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    # A compiled network would be compiled anew for each change.
    compiled = any("_orig_mod" in m._modules or getattr(m, "_compiled_call_impl", None) for m in modules)
    changed: list[nn.Module] = []
    try:
        for module in [] if compiled else modules:
            if way := _way(module):
                module.forward = way(module)
                changed.append(module)
        yield
    finally:
        for module in changed:
            module.__dict__.pop("forward", None)


def _way(module: nn.Module) -> Callable[[Any], Callable[[Tensor], Tensor]] | None:
    way = scaled if stands_still(module) else patchwise if cuts_patches(module) else None
    if way is None or "forward" in module.__dict__:  # somebody's own, or eased already
        return None
    # On a processor, where it was measured.
    here = all(tensor.device.type == "cpu" for tensor in (*module.parameters(), *module.buffers()))
    return way if here else None
