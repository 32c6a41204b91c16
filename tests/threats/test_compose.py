"""Chains of threats: their specs, their draws, their order."""

from __future__ import annotations

import pytest
import torch
from corruption_references import picture
from torch import nn

from vallum.errors import UserError
from vallum.threats import Compose, Gaussian, threat

IMAGES = torch.stack([picture(24, 32, seed) for seed in range(3)]) * 0.5 + 0.25
LABELS = torch.tensor([0, 1, 2])


def test_specs_round_trip() -> None:
    for spec in (
        "fog:3+jpeg:2",
        "gaussian:std=0.1 + gaussian:std=0.1",
        "gaussian:std=1e+0+contrast:2",
        "motion:2.5+fog:1",
    ):
        chain = threat(spec)
        assert isinstance(chain, Compose)
        assert threat(chain.spec) == chain
        assert len(chain.parts) == 2
    assert threat("fog:3+jpeg:2").spec == "fog:3+jpeg_compression:2"
    assert not isinstance(threat("gaussian:std=1e+0"), Compose)


def test_parts_happen_in_order() -> None:
    chain = threat("contrast:2+brightness:1")
    after = threat("brightness:1")(None, threat("contrast:2")(None, IMAGES, LABELS), LABELS)
    assert torch.equal(chain(None, IMAGES, LABELS), after)


def test_what_occurs_twice_draws_twice() -> None:
    single = Gaussian(std=0.01)(None, IMAGES, LABELS, [4, 5, 6]) - IMAGES
    both = threat("gaussian:std=0.01+gaussian:std=0.01")(None, IMAGES, LABELS, [4, 5, 6]) - IMAGES
    second = both - single
    assert float(torch.corrcoef(torch.stack([single.flatten(), second.flatten()]))[0, 1].abs()) < 0.05
    assert float(both.std()) == pytest.approx(0.01 * 2**0.5, rel=0.05)
    other_seed = threat("gaussian:std=0.01+gaussian:std=0.01,seed=1")(None, IMAGES, LABELS, [4, 5, 6])
    alone = Gaussian(std=0.01, seed=1)(None, IMAGES, LABELS, [4, 5, 6]) - IMAGES
    assert torch.allclose(other_seed - IMAGES, single + alone, atol=1e-6)


def test_kinds() -> None:
    assert threat("gaussian:std=0.1+uniform:width=0.1").kind == "noise"
    assert threat("gaussian:std=0.1+fog:2").kind == "corruption"
    attack = threat("fog:2+pgd:eps=8/255,steps=2")
    assert (attack.kind, attack.needs_gradient, attack.budget) == ("attack", True, None)
    assert attack.passes == threat("pgd:eps=8/255,steps=2").passes


def test_an_attack_sees_what_came_before_it() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 32, 3))
    chain = threat("contrast:3+pgd:eps=4/255,steps=2")
    before = threat("contrast:3")(net, IMAGES, LABELS)
    assert float((chain(net, IMAGES, LABELS) - before).abs().max()) <= 4 / 255 + 1e-6


def test_masks_pass_through_every_part() -> None:
    masks = (torch.arange(24)[:, None] // 6 * torch.ones(32)).long().expand(3, -1, -1)
    chain = threat("fog:1+elastic:3+jpeg:1")
    assert chain.moves_labels
    assert torch.equal(
        chain.with_labels(None, IMAGES, masks)[1], threat("elastic:3").with_labels(None, IMAGES, masks)[1]
    )
    assert not threat("fog:1+jpeg:1").moves_labels


def test_mistakes() -> None:
    for spec, match in (
        ("fog:3+", "empty part"),
        ("+fog:3", "empty part"),
        ("fog:3+jpg:2", "no threat is called"),
        ("fog:3+jpeg", "lacks severity"),
    ):
        with pytest.raises(UserError, match=match):
            threat(spec)
    with pytest.raises(UserError, match="two parts"):
        Compose((Gaussian(std=0.1),))
