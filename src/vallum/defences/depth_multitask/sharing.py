"""One encoder for two tasks, in whatever segmenter has an encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vallum.defences.depth_multitask.networks import scale_gradient
from vallum.errors import UserError
from vallum.models.model import Model, Wrapped


def encoder_of(model: Model) -> nn.Module:
    """The part of a segmenter that turns images into features, a list from fine to coarse."""
    for module in model.modules():
        found = getattr(module, "encoder", None)
        if isinstance(found, nn.Module):
            return found
    raise UserError(
        "this model has no encoder that depth could share",
        "a network with an attribute `encoder` that returns its features, a list from fine to coarse",
        "net:segmenter and smp:Unet?encoder=tu-resnet18 have one, with any encoder of timm after tu-",
    )


def as_input(model: Model, images: Tensor) -> Tensor:
    """Images as the model gives them to its network."""
    return (images - model.mean) / model.std if isinstance(model, Wrapped) else images


def features_of(found: Any, images: Tensor) -> list[Tensor]:
    """An encoder's features without the image itself, which some put first."""
    if not isinstance(found, list | tuple) or not all(isinstance(f, Tensor) and f.ndim == 4 for f in found):
        raise UserError("the encoder returns something else than a list of features", "a list of (N, C, H, W)")
    return [feature for feature in found if feature.shape[-2:] != images.shape[-2:]]


class Seen:
    """The features of the images that passed through the encoder beside the segmenter's."""

    features: list[Tensor]


@contextmanager
def beside(encoder: nn.Module, inputs: Tensor, balance: float) -> Iterator[Seen]:
    """Within, whatever passes through the encoder takes `inputs` along, in one batch: batch norm sees both domains.

    What flows back into the encoder from the segmenter is multiplied by `balance`, from the others by 1 - `balance`.
    Images of another size than the inputs pass on their own.
    """
    seen = Seen()
    alone = 0

    def enter(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal alone
        images = given[0]
        alone = len(images) if images.shape[1:] == inputs.shape[1:] else 0
        return (torch.cat([images, inputs.to(images.dtype)]), *given[1:]) if alone else given

    def leave(module: nn.Module, given: tuple[Any, ...], found: Any) -> Any:
        images = given[0]
        features_of(found, images)  # refuses what is no list
        if alone:
            own, others = [f[:alone] for f in found], features_of([f[alone:] for f in found], images)
        else:
            own, others = list(found), features_of(module.forward(inputs), inputs)
        seen.features = [scale_gradient(feature, 1 - balance) for feature in others]
        return type(found)([scale_gradient(feature, balance) for feature in own])

    hooks = encoder.register_forward_pre_hook(enter), encoder.register_forward_hook(leave)
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
