"""Small networks for small images, the classifiers laid out from timm's parts; two cores train them in minutes."""

from __future__ import annotations

from torch import nn

from vallum.errors import UserError
from vallum.torchvision_shim import ensure_torchvision

MEAN, STD = 0.5, 0.25  # spread [0, 1] over [-2, 2], for any number of channels


def resnet(classes: int = 10, channels: int = 3) -> nn.Module:
    """Residual network for images of any size: 0.7 M parameters, 14 MFLOP forward at 32x32."""
    ensure_torchvision()
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    # The stem halves the size and nothing pools after it, so at 32x32 the stages run at 16, 8, 4 and 2.
    stages = tuple(
        ByoBlockCfg(type="basic", d=1, c=width, s=stride, br=1.0)
        for width, stride in ((16, 1), (48, 2), (96, 2), (192, 2))
    )
    layout = ByoModelCfg(blocks=stages, stem_type="3x3", stem_chs=16, stem_pool="")
    return ByobNet(layout, num_classes=classes, in_chans=channels)


def vit(classes: int = 10, channels: int = 3, size: int = 32) -> nn.Module:
    """Vision transformer for square images of one size, cut into 8x8 patches: 0.3 M parameters, 38 MFLOP forward."""
    ensure_torchvision()
    from timm.models.vision_transformer import VisionTransformer

    if size < 8 or size % 8:
        raise UserError(f"size={size}", "a multiple of 8, as the image is cut into 8x8 patches")
    return VisionTransformer(
        img_size=size,
        patch_size=size // 8,
        in_chans=channels,
        num_classes=classes,
        embed_dim=96,
        depth=4,
        num_heads=3,
        mlp_ratio=2,
        class_token=False,
        global_pool="avg",
    )


def segmenter(classes: int = 11, channels: int = 3) -> nn.Module:
    """Segmenter for images of any size, as streets: 0.64 M parameters, 165 MFLOP forward at 64x192."""
    from vallum.models.segmenter import Segmenter

    return Segmenter(classes, channels)


NETS = {"resnet": resnet, "vit": vit, "segmenter": segmenter}
