"""A way past whatever a model does to its images before the network inside it looks at them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.stand_ins import StandIn, value_of
from vallum.models.model import Model


def inner_network(model: Model, images: Tensor) -> str | None:
    """The innermost module that is given pictures and returns logits, by its name; None where there is none.

    >>> from vallum.models.model import Wrapped
    >>> network = nn.Sequential(nn.AvgPool2d(2), nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    >>> inner_network(Wrapped(network), torch.rand(2, 3, 4, 4))
    'network.1'
    """
    met: dict[str, torch.Size] = {}

    def noting(name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and _are_pictures(inputs, images):
                met[name] = output.shape

        return note

    handles = [module.register_forward_hook(noting(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            wanted = model(images).shape
    finally:
        for handle in handles:
            handle.remove()
    return max((name for name, shape in met.items() if shape == wanted), key=lambda name: name.count("."), default=None)


class Bypass(StandIn):
    """What the network inside a model says of the pictures that it is given there, and its gradient at those.

    What stands before the network counts as the identity on the way back, or as a change of size where it changes that;
    what comes after it is left out.
    """

    def __init__(self, model: Model, inner: str) -> None:
        super().__init__(model)
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        network, given = self.model.get_submodule(self.inner), images

        def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            nonlocal given
            if _are_pictures(inputs, images):
                given = inputs[0]  # the last it is given, where it is asked more than once

        handle = network.register_forward_pre_hook(note)
        try:
            with torch.no_grad():
                self.model(images)
        finally:
            handle.remove()
        there = images
        if given.shape != images.shape:
            there = F.interpolate(images, given.shape[2:], mode="bilinear", align_corners=False)
        return network(value_of(given.detach(), there))


def _are_pictures(inputs: tuple[Any, ...], images: Tensor) -> bool:
    first = inputs[0] if inputs else None
    return isinstance(first, Tensor) and first.ndim == 4 and first.shape[:2] == images.shape[:2]
