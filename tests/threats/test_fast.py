"""A network with batch norm folded away against the network itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vallum
from vallum.evaluation.passes import Counted
from vallum.models.model import Wrapped
from vallum.threats import threat
from vallum.threats.fast import folded


def settled(net: nn.Module) -> nn.Module:
    """In evaluation mode, with statistics and scales that make folding wrongly show."""
    draws = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                tensor.data.copy_(torch.rand(tensor.shape, generator=draws) + 0.5)
    return net.eval()


class Residual(nn.Module):
    def __init__(self, tapped: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.up, self.bn3 = nn.ConvTranspose2d(8, 4, 2, 2), nn.BatchNorm2d(4)
        self.head, self.tapped = nn.Linear(4, 5), tapped

    def forward(self, images: Tensor) -> Tensor:
        made = self.conv1(images)
        x = F.relu(self.bn1(made))
        x = x + self.bn2(self.conv2(x)) + (made if self.tapped else 0)
        return self.head(F.relu(self.bn3(self.up(x))).mean((2, 3)))


NETS = {"residual": Residual, "act inside": lambda: vallum.load_model("net:resnet?classes=7")}


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_the_folded_network_answers_and_slopes_as_the_network_does(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, images = settled(make()), torch.rand(3, 3, 32, 32)
    before = copy.deepcopy(net.state_dict())
    fast = folded(net, images)
    assert fast is not net
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())  # type: ignore[attr-defined]
    slopes = []
    for one in (net, fast):
        point = images.clone().requires_grad_()
        logits = one(point)
        slopes.append((logits.detach(), *torch.autograd.grad(logits.logsumexp(1).sum(), point)))
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Twice(Residual):
    """A norm that is used twice belongs to no convolution."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.bn1(self.bn1(self.conv1(images)))
        return self.head(self.bn3(self.up(x)).mean((2, 3)))


class Noisy(Residual):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.randn(())


def test_what_cannot_be_folded_stays_as_it_is() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert folded(torch.sin, images) is torch.sin
    for net in (settled(Residual(tapped=True)), settled(Noisy()), Residual().train(), nn.Conv2d(3, 4, 3)):
        assert folded(net, images) is net
    net = settled(Twice())
    torch.testing.assert_close(folded(net, images)(images), net(images), rtol=1e-4, atol=1e-5)


def test_passes_through_a_copy_are_counted() -> None:
    net = Counted(Wrapped(settled(Residual()), classes=5))
    images = torch.rand(2, 3, 8, 8)
    labels = net.model(images).argmax(1)
    threat("strong:eps=1e-6,effort=0.1")(net, images, labels)
    assert net.backwards > 0
    assert net.forwards > net.backwards
