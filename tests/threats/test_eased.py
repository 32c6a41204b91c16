"""What is computed otherwise while a network is attacked, against what it does by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fast import NETS, settled
from torch import Tensor, nn

from vallum.threats.eased import eased
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
    with frozen(net), eased(net):
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
    with eased(nn.Sequential(learning, half, own)):
        for got, wanted in zip((learning(images), half(images.bfloat16()), own(images)), expected, strict=True):
            torch.testing.assert_close(got, wanted)
        assert half(images.bfloat16()).dtype == torch.bfloat16
    with pytest.raises(ZeroDivisionError), eased(half):
        _ = 1 / 0
    assert "forward" not in half.__dict__


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(2, 5), st.integers(1, 5)),
    patches=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    over=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    colours=st.integers(1, 4),
    count=st.integers(1, 3),
    bias=st.booleans(),
)
def test_patches_have_the_slope_that_their_convolution_has(
    size: tuple[int, int], patches: tuple[int, int], over: tuple[int, int], colours: int, count: int, bias: bool
) -> None:
    net = nn.Conv2d(colours, 5, size, size, bias=bias).double().requires_grad_(False)
    height, width = (a * b + rest for a, b, rest in zip(size, patches, over, strict=True))
    images = torch.rand(count, colours, height, width, dtype=torch.float64, requires_grad=True)

    def slopes() -> tuple[Tensor, Tensor, Tensor]:
        made = net(images)
        (slope,) = torch.autograd.grad(made.sin().sum(), images, create_graph=True)
        (curve,) = torch.autograd.grad(slope.square().sum(), images)
        return made.detach(), slope.detach(), curve

    plain = slopes()
    with eased(net):
        assert "forward" in net.__dict__
        quick = slopes()
    assert torch.equal(quick[0], plain[0])
    torch.testing.assert_close(quick, plain, rtol=1e-12, atol=1e-12)


def test_patches_whose_weights_learn_and_convolutions_of_another_kind_are_left_alone() -> None:
    images = torch.rand(2, 3, 8, 8)
    net = nn.Conv2d(3, 4, 2, 2)
    with eased(net):
        net(images).sum().backward()
    assert net.weight.grad is not None
    kinds = [nn.Conv2d(3, 4, 2, 1), nn.Conv2d(3, 4, 2, 2, padding=1), nn.Conv2d(3, 3, 2, 2, groups=3)]
    kinds += [nn.Conv2d(3, 4, 1, 1), nn.Conv2d(5, 4, 2, 2), nn.Conv2d(3, 4, 2, 2, dilation=2)]
    with eased(nn.Sequential(*kinds)):
        assert not any("forward" in kind.__dict__ for kind in kinds)
