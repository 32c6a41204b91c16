"""A wrapper normalises, keeps modes, and meets half precision; what it is told wrong it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vallum.errors import UserError
from vallum.models import Wrapped
from vallum.models.model import class_names

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def flat(*, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, 5))


def test_normalisation_is_by_channel() -> None:
    network, mean, std = flat(), [0.1, 0.2, 0.3], [0.5, 0.25, 0.125]
    by_hand = torch.stack([(IMAGES[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    assert torch.equal(Wrapped(network, mean=mean, std=std)(IMAGES), network(by_hand))
    assert torch.equal(Wrapped(network)(IMAGES), network(IMAGES))


def test_its_state_is_that_of_the_network() -> None:
    network = flat()
    state = Wrapped(network, mean=0.5).state_dict()
    assert [name.removeprefix("network.") for name in state] == list(network.state_dict())


def test_every_module_keeps_its_mode() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), flat())
    network[0].eval()
    Wrapped(network)
    assert (network.training, network[0].training, network[1].training) == (True, False, True)
    assert not Wrapped(network.eval()).training


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_a_network_is_met_in_its_own_precision(kind: torch.dtype) -> None:
    network = flat().to(kind)
    found = Wrapped(network, mean=0.5, std=0.25)(IMAGES)
    expected = network(((IMAGES - 0.5) / 0.25).to(kind))
    assert found.dtype == torch.promote_types(kind, torch.float32)
    assert torch.equal(found, expected.to(found.dtype))


def test_the_gradient_reaches_float32_images_through_half_precision() -> None:
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Wrapped(flat().bfloat16())(images).sum(), images)
    assert gradient.dtype == torch.float32
    assert bool(gradient.abs().sum() > 0)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mean": [123.7, 116.3, 103.5]}, "divide by 255"),
        ({"std": [0.2, 0.0, 0.2]}, "not positive"),
        ({"mean": [0.5] * 3, "std": [0.5] * 4}, "differ in length"),
        ({"mean": float("nan")}, "finite"),
        ({"mean": []}, "one finite number"),
        ({"outputs": "softmax"}, "'logits', 'probabilities'"),
        ({"classes": "ab"}, "two or more"),
        ({"classes": 1}, "two or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Wrapped(flat(), **settings)


def test_grey_images_are_not_broadcast_to_three_channels() -> None:
    with pytest.raises(UserError, match=r"1 channel\(s\), the model's mean and std 3"):
        Wrapped(flat(), mean=[0.5] * 3)(IMAGES[:, :1])


def test_classes_by_name_or_number() -> None:
    assert class_names(2) == ("0", "1")
    assert class_names(["b", "a"]) == ("b", "a")
    assert class_names(None) is None
