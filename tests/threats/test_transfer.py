"""Attacks crafted elsewhere: on linear surrogates, without a look at the model that is attacked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from threat_oracles import EPS, SHAPE, Exact, ExactPixels, Linear, drawn, grey_and_boxed, optimum
from torch import Tensor

import vallum
from vallum.errors import UserError
from vallum.threats import Momentum, Transfer
from vallum.threats.losses import cross_entropy, margin

HERE = Path(__file__).parent / "threat_oracles.py"
IMAGES = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))


def untouchable(images: Tensor) -> Tensor:
    raise AssertionError("the model that is attacked was asked")


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("targeted", [False, True])
def test_two_surrogates_are_attacked_as_their_mean(norm: str, targeted: bool) -> None:
    images, labels = grey_and_boxed(4)["ball"], torch.zeros(4, dtype=torch.long)
    one, other = (Linear(drawn(2, 108, seed=seed) / 8) for seed in (1, 2))
    mean = Linear((one.weight + other.weight).detach() / 2)
    before, wanted = optimum(norm, mean, images, EPS[norm])
    attack = Transfer(eps=EPS[norm], norm=norm, surrogates="(unused)", diversity=0, targeted=targeted)
    found = margin(mean(attack.craft([one, other], images, labels + targeted).double()), labels).detach()
    reached = (found - before) / (wanted - before)
    assert float(reached.min()) >= 0.999
    assert float(reached.max()) <= 1 + 1e-4


def test_the_model_itself_is_never_asked() -> None:
    labels = Exact()(IMAGES).argmax(1)
    attack = vallum.threat(f"transfer:eps=0.05,steps=4,surrogates=({HERE}:Exact)")
    found = attack(untouchable, IMAGES, labels)
    assert not attack.needs_gradient
    assert float((margin(Exact()(found), labels) - margin(Exact()(IMAGES), labels)).min()) > 0


def test_each_image_keeps_the_step_at_which_the_surrogates_lost_most() -> None:
    labels = Exact()(IMAGES).argmax(1)
    settings = {"eps": 0.3, "step_size": 0.15, "decay": 0.0}
    each = [cross_entropy(Exact()(Momentum(**settings, steps=n)(Exact(), IMAGES, labels)), labels) for n in range(1, 8)]
    attack = Transfer(**settings, steps=7, diversity=0, surrogates="unused")
    found = cross_entropy(Exact()(attack.craft([Exact()], IMAGES, labels)), labels)
    assert torch.equal(found, torch.stack(each).amax(0))
    assert bool((found > each[-1]).any()), "the last step is not the best one"


def test_smoothed_gradients_are_those_of_shifted_images_together() -> None:
    model, labels = Linear(drawn(2, 3 * 15 * 15) / 8), torch.zeros(1, dtype=torch.long)
    images = torch.full((1, 3, 15, 15), 0.5)
    rough, smooth = (
        (Momentum(eps=0.1, steps=1, norm="2", translation=t)(model, images, labels) - images)[0] for t in (0, 2)
    )
    assert float(smooth.diff(dim=2).norm()) < 0.35 * float(rough.diff(dim=2).norm())
    assert float(smooth.norm()) == pytest.approx(0.1, rel=1e-4)


def test_mistakes() -> None:
    labels = torch.zeros(5, dtype=torch.long)
    with pytest.raises(UserError, match="no surrogate"):
        Transfer(eps=0.1, surrogates="()")
    with pytest.raises(UserError, match="does not do what the model does"):
        Transfer(eps=0.1, surrogates=f"({HERE}:Exact)")(ExactPixels(), IMAGES, torch.zeros(5, 6, 6, dtype=torch.long))
    model = vallum.load_model(Exact(), classes=4)
    with pytest.raises(UserError, match="has 43 classes, the model 4"):
        Transfer(eps=0.1, surrogates="(builtin:signs_resnet)")(model, IMAGES, labels)
    with pytest.raises(UserError, match="same question"):
        Transfer(eps=0.1, surrogates="x").craft([Exact(3), Exact(4)], IMAGES, labels)
