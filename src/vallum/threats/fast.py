"""What a search may run on instead of the model: something that computes the same, in less time.

Where batch norm follows a convolution, both are one convolution: found by watching where each tensor of one pass comes
from, done on a copy, and kept only if the copy answers as the model does. What a search finds is judged by the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vallum.threats.norms import at_least_float32

Search = Callable[[Tensor], Tensor]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
AGREES = 1e-4  # of the largest logit: beyond the rounding of a deep network, below anything that would mislead


def folded(model: Search, images: Tensor) -> Search:
    """The model with batch norm folded away, or the model itself where there is none, or where that cannot be done."""
    if not isinstance(model, nn.Module) or not any(_is_folded(module) for module in model.modules()):
        return model
    # Always the same picture, so that what is decided does not depend on the batch.
    shape = images.shape[1:]
    probe = torch.linspace(0, 1, shape.numel(), dtype=images.dtype, device=images.device).view(1, *shape)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copied = copy.deepcopy(model)
            _fold(copied, _pairs(copied, probe))
            expected, got = model(probe), copied(probe)
    except Exception:  # whatever a stranger's network does when it is copied, or watched
        return model
    agree = float((expected - got).abs().max()) <= AGREES * float(expected.abs().max())
    return copied.requires_grad_(False) if agree else model


def in_bfloat16(model: Search) -> Search:
    """The model where its convolutions and products are computed in half the bits, channels last."""

    def run(images: Tensor) -> Tensor:
        images = images.to(at_least_float32(images))  # autocast does not mix one half with the other
        with torch.autocast(images.device.type, torch.bfloat16):
            return model(images.contiguous(memory_format=torch.channels_last)).float()

    return run


def _is_folded(module: nn.Module) -> bool:
    return isinstance(module, nn.BatchNorm2d) and not module.training and module.running_mean is not None


def _pairs(model: nn.Module, probe: Tensor) -> dict[nn.Module, nn.Module]:
    """Each batch norm with the convolution that its input comes from, both of them called once."""
    source: dict[int, nn.Module] = {}
    kept: list[Tensor] = []  # so that no two tensors have one id
    pairs: dict[nn.Module, nn.Module] = {}
    calls: dict[nn.Module, int] = {}

    def convolved(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        source[id(made)], calls[module] = module, calls.get(module, 0) + 1
        kept.append(made)

    def normed(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1
        if given and id(given[0]) in source:
            pairs[module] = source[id(given[0])]

    hooks = [m.register_forward_hook(convolved) for m in model.modules() if isinstance(m, CONVOLUTIONS)]
    hooks += [m.register_forward_pre_hook(normed) for m in model.modules() if _is_folded(m)]
    model(probe)
    for hook in hooks:
        hook.remove()
    return {norm: conv for norm, conv in pairs.items() if calls[norm] == calls[conv] == 1}


def _fold(model: nn.Module, pairs: dict[Any, Any]) -> None:
    for norm, conv in pairs.items():
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
            transpose=isinstance(conv, nn.ConvTranspose2d),
        )  # fmt: skip
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in pairs:  # what timm's batch norms do afterwards stays
                rest = [part for part in (getattr(child, "drop", None), getattr(child, "act", None)) if part]
                setattr(parent, name, nn.Sequential(*rest))
