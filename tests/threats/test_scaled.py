"""Batch norm as a scale and a shift against batch norm."""

from __future__ import annotations

import pytest
import torch
from test_fast import NETS, settled
from torch import Tensor, nn

from vallum.threats.scaled import scaled
from vallum.threats.search import frozen


def said(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    point = images.clone().requires_grad_()
    logits = net(point)
    return logits.detach(), torch.autograd.grad(logits.logsumexp(1).sum(), point)[0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
def test_answers_and_slopes_are_the_networks_own(make: type[nn.Module], layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    net = settled(make()).double().to(memory_format=layout)
    images = torch.rand(3, 3, 32, 32).double()
    plain = said(net, images)
    before = [dict(module.__dict__) for module in net.modules()]
    with frozen(net), scaled(net):
        changed = sum("forward" in module.__dict__ for module in net.modules())
        quick = said(net, images)
    assert changed == sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) > 0
    for ours, theirs in zip(quick, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert [dict(module.__dict__) for module in net.modules()] == before


def test_what_it_does_not_know_it_leaves_alone() -> None:
    class Own(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 1

    learning, half, own = nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval(), Own(2).eval()
    images = torch.rand(4, 2, 3, 3)
    expected = learning(images), half(images.bfloat16()), own(images)
    with scaled(nn.Sequential(learning, half, own)):
        for got, wanted in zip((learning(images), half(images.bfloat16()), own(images)), expected, strict=True):
            torch.testing.assert_close(got, wanted)
        assert half(images.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ZeroDivisionError), scaled(half):
        _ = 1 / 0
    assert "forward" not in half.__dict__
