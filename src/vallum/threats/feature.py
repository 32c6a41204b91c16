"""Feature distance: drive what a network makes of an image, before it decides, as far as possible from what it was.

After Sabour et al. 2016 (arXiv 1511.05122), with the climb of Auto-PGD. It looks past the last layer, which is where
a defence may hide the gradient of every loss on logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.errors import UserError, did_you_mean
from vallum.images import IGNORE
from vallum.specs import parameter
from vallum.threats.apgd import Climbs
from vallum.threats.base import THREATS
from vallum.threats.losses import margin
from vallum.threats.search import Best, frozen
from vallum.threats.segmentation_losses import wrong_share


@THREATS.register("feature")
@dataclass(frozen=True)
class Feature(Climbs):
    """Auto-PGD on the distance between an image's features and those it had; the best by its decision is kept.

    >>> Feature(eps=8 / 255, layer="network.layer4").spec
    'feature:eps=8/255,layer=network.layer4'
    """

    eps: float | Tensor = parameter("radius: a number, or in Python one per image")
    norm: Literal["inf", "2", "1"] = parameter("in which the radius is measured", "inf")
    steps: int = parameter("forward and backward passes per restart", 100)
    restarts: int = parameter("random starts; an image keeps the best that any found", 1)
    layer: str | None = parameter("whose output it is; none: what enters the last linear layer or convolution", None)
    large_first: bool | None = parameter("begin in larger balls; none: where the norm is 1", None)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of the random starts", 0)

    @property
    def passes(self) -> float:
        return 1 + self.restarts * (3.0 * self.steps + len(self.phases))

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        draws = self.draws(images, keys)
        with frozen(model), watched(model, self.layer) as seen:
            images, labels = images.detach().clone(), labels.clone()
            best = Best(images, labels, targeted=False)
            if not len(images):
                return images
            with torch.no_grad():
                were = seen(model(images))

            def objective(logits: Tensor, labels: Tensor, were: Tensor) -> Tensor:
                moved = (seen(logits) - were).double()
                if labels.ndim == 3 and moved.ndim == 4:  # features of pixels: those without a label do not count
                    there = F.interpolate((labels != IGNORE)[:, None].double(), moved.shape[2:], mode="nearest")
                    moved = moved * there
                return moved.flatten(1).square().sum(1)

            rank = margin if labels.ndim == 1 else wrong_share
            for restart in range(self.restarts):
                self.climb_from_random(model, best, images, were, objective, rank, draws.of(f"restart {restart}"))
        return best.images


@contextmanager
def watched(model: Any, layer: str | None) -> Iterator[Any]:
    """A function from the logits of the last pass to the features it had; the logits themselves if there are no layers.

    The hook is taken off whatever happens.
    """
    kept: dict[str, Tensor] = {}
    modules = dict(model.named_modules()) if isinstance(model, nn.Module) else {}
    if layer is not None:
        place = next((name for name in modules if name == layer or name.endswith(f".{layer}")), None)
        if place is None:
            raise UserError(f"the model has no layer {layer!r}", remedy=did_you_mean(layer, filter(None, modules)))
        hook = modules[place].register_forward_hook(lambda _, inputs, output: kept.update(features=_tensor(output)))
    else:
        deciding = [m for m in modules.values() if isinstance(m, nn.Linear | nn.Conv2d)]
        if not deciding:
            yield lambda logits: logits
            return
        hook = deciding[-1].register_forward_hook(lambda _, inputs, output: kept.update(features=_tensor(inputs)))
    try:
        yield lambda logits: _by_image(kept["features"] if kept else logits, len(logits))
    finally:
        hook.remove()


def _by_image(features: Tensor, images: int) -> Tensor:
    """Some layers see a batch's places one below the other."""
    return features if len(features) == images else features.reshape(images, -1)


def _tensor(output: Any) -> Tensor:
    """The first tensor in whatever a layer takes or gives."""
    while not isinstance(output, Tensor):
        output = next(iter(output.values() if isinstance(output, dict) else output))
    return output
