"""Searches for the nearest image that falls, against the closed-form distance of linear models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from threat_oracles import SHAPE, Exact, Linear, drawn, grey_and_boxed, highest
from torch import Tensor

from vallum.errors import UserError
from vallum.threats import DDN, FMN, SigmaZero, threat
from vallum.threats.losses import fallen
from vallum.threats.norms import norm_named

ALL = ["ddn", "fmn:norm=inf", "fmn:norm=2", "fmn:norm=1", "fmn:norm=0", "sigma_zero"]
NORM = {"ddn": "2", "sigma_zero": "0"}
RATIO = {  # what is found over what there is, at 200 steps
    "ddn": 1.02,
    "fmn:norm=inf": 1.02,
    "fmn:norm=2": 1.02,
    "fmn:norm=1": 1.15,
    "fmn:norm=0": 1.5,
    "sigma_zero": 1.3,
}


def nearest(norm: str, model: Linear, image: Tensor, label: int) -> float:
    """How far the image is from the other side, by bisection on what the ball of a radius reaches."""
    weight, logits = model.weight.detach().double().numpy(), model(image[None].double()).detach()[0].numpy()
    flat = image.flatten().double().numpy()
    lacks = logits[label] - logits[1 - label]
    low, high = 0.0, float(np.prod(image.shape))
    if norm == "0":
        return next(
            float(k) for k in range(image.numel() + 1)
            if highest("0", weight[1 - label] - weight[label], k, -flat, 1 - flat) > lacks
        )  # fmt: skip
    for _ in range(40):
        middle = (low + high) / 2
        if highest(norm, weight[1 - label] - weight[label], middle, -flat, 1 - flat) > lacks:
            high = middle
        else:
            low = middle
    return high


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize("targeted", [False, True])
def test_finds_the_distance_of_a_linear_model(spec: str, targeted: bool) -> None:
    norm = NORM.get(spec, spec[-1] if spec[-1] != "f" else "inf")
    images = grey_and_boxed(6)["ball and box" if norm != "2" else "ball"]
    model = Linear(drawn(2, math.prod(SHAPE)) / 4)
    labels = model(images).argmax(1)
    attack = threat(f"{spec}{',' if ':' in spec else ':'}steps=200,targeted={str(targeted).lower()}")
    found = attack(model, images, 1 - labels if targeted else labels)
    assert bool(fallen(model(found), labels, targeted=False).all())
    distance = norm_named(norm).length(found - images)
    wanted = torch.tensor(
        [nearest(norm, model, image, int(label)) for image, label in zip(images, labels, strict=True)]
    )
    ratio = distance / wanted
    assert float(ratio.min()) >= 0.999, ratio
    assert float(ratio.max()) <= RATIO[spec], ratio


@pytest.mark.parametrize("attack", [DDN(steps=8), FMN(norm="1", steps=8), FMN(norm="0", steps=8), SigmaZero(steps=8)])
def test_what_has_fallen_already_is_left_alone_and_what_cannot_fall_too(attack: DDN | FMN | SigmaZero) -> None:
    images = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    says = Exact()(images).argmax(1)
    assert torch.equal(attack(Exact(), images, (says + 1) % 3), images)
    sure = Linear(torch.zeros(2, 108), torch.tensor([1.0, 0.0]))  # whatever it is shown
    assert torch.equal(attack(sure, images, torch.zeros(4, dtype=torch.long)), images)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="steps=0: at least 1"):
        FMN(steps=0)


@pytest.mark.parametrize("spec", ALL)
def test_passes_are_counted_as_they_happen(spec: str) -> None:
    passes = {"forward": 0, "backward": 0}

    def model(images: Tensor) -> Tensor:
        passes["forward"] += 1
        logits = Linear(drawn(2, math.prod(SHAPE)))(images)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: passes.update(backward=passes["backward"] + 1))
        return logits

    attack = threat(f"{spec}{',' if ':' in spec else ':'}steps=7")
    attack(model, torch.full((2, *SHAPE), 0.5), torch.zeros(2, dtype=torch.long))
    assert passes == {"forward": 7, "backward": 6}
    assert attack.passes == 7 + 2 * 6
