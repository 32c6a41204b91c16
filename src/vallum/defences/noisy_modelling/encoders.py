"""The vision transformer that looks at the noisy image: one of timm's, of any size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.models.model import Model, Wrapped
from vallum.models.request import Request, make_model
from vallum.specs import Source
from vallum.torchvision_shim import ensure_torchvision

MOST_PATCHES = 196  # of a default encoder: what a ViT has at 224 pixels in patches of 16


def make_encoder(text: str, *, saved: bool = False, trust: bool = False) -> Any:
    """timm's transformer that a source names, without its head; `small:?size=32x32` is one for small images."""
    source = Source.parse(text)
    if source.scheme == "small":
        return _small(source)
    model = make_model(text, Request.of(classes=2, saved=saved, trust=trust))
    network = vit_of(model)
    if network is None:
        raise UserError(f"{text} is no vision transformer", "one of timm's", "as timm:vit_tiny_patch16_224?img_size=32")
    if not isinstance(getattr(network.patch_embed, "proj", None), nn.Conv2d) or hasattr(
        network.patch_embed, "backbone"
    ):
        raise UserError(f"{text} looks at patches through a network of its own", "one that cuts the image into patches")
    network.reset_classifier(0, "")
    if hasattr(network, "fc_norm"):
        network.fc_norm = nn.Identity()  # only the head had use for it
    return network


def vit_of(model: Model) -> Any | None:
    """timm's VisionTransformer inside a model, None where there is none."""
    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    network = model.network if isinstance(model, Wrapped) else None
    return network if isinstance(network, VisionTransformer) else None


def encoder_for(model: Model, images: Tensor) -> str:
    """The encoder to pre-train for a model: its own architecture if it is a transformer, else a small one.

    >>> from vallum.models import load_model
    >>> encoder_for(load_model("builtin:signs_resnet"), torch.rand(1, 3, 32, 32))
    'small:?size=32x32&channels=3'
    """
    channels, height, width = images.shape[1:]
    if vit_of(model) is not None and model.build:
        source = Source.parse(model.build).but(pretrained=None, weights=None)
        if "dynamic_img_size" in source.options and height == width:  # the denoiser needs a size of its own
            source = source.but(dynamic_img_size=None, img_size=str(height))
        return str(source)
    return f"small:?size={height}x{width}&channels={channels}"


def _small(source: Source) -> Any:
    """Four blocks of width 96, for at most 196 patches: 0.3 M parameters."""
    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    source.refuse_unknown("size", "channels")
    height, width = (int(edge) for edge in source.options["size"].split("x"))
    common = math.gcd(height, width)
    fitting = [p for p in range(1, common + 1) if common % p == 0 and height * width <= MOST_PATCHES * p * p]
    if not fitting or max(fitting) == fitting[0] == common > 32:
        raise UserError(
            f"images of {height}x{width} fall into no {MOST_PATCHES} equal patches", remedy="name an encoder"
        )
    return VisionTransformer(
        img_size=(height, width), patch_size=fitting[0], in_chans=int(source.options.get("channels", 3)),
        num_classes=0, global_pool="", embed_dim=96, depth=4, num_heads=3, mlp_ratio=2, class_token=False,
        fc_norm=False,
    )  # fmt: skip


def tokens(vit: Any, images: Tensor, hidden: Tensor | None = None, in_place_of_hidden: Tensor | None = None) -> Tensor:
    """What the transformer makes of each patch, (N, L, D), without class and register tokens.

    `hidden` (N, L) says which patches it does not see: with a token to stand in their place all L go through it, as in
    SimMIM; without one only the others do, in their order, as in MAE.
    """
    prefix = vit.num_prefix_tokens
    if hidden is None:
        return vit.forward_features(images)[:, prefix:]
    x = vit.patch_embed(images)  # (N, L, D), or (N, h, w, D)
    if in_place_of_hidden is not None:
        x = torch.where(hidden.view(*x.shape[:-1], 1), in_place_of_hidden.to(x.dtype), x)
    x = vit._pos_embed(x)  # (N, prefix + L, D)
    if in_place_of_hidden is None:
        seen = (~hidden).nonzero()[:, 1].view(len(x), -1, 1).expand(-1, -1, x.shape[-1])  # as many in each image
        x = torch.cat([x[:, :prefix], x[:, prefix:].gather(1, seen)], 1)
    return vit.norm(vit.blocks(vit.norm_pre(x)))[:, prefix:]
