"""Searches for the nearest image that falls, against the closed-form distance of linear models."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from threat_oracles import SHAPE, Exact, Linear, drawn, grey_and_boxed, highest
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats import DDN, FMN, SigmaZero, threat
from vallum.threats.losses import fallen
from vallum.threats.minimal import Nearest
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

RATIO_OF_MASKS = {**RATIO, "ddn": 1.3, "fmn:norm=inf": 1.02, "fmn:norm=2": 2.0, "fmn:norm=1": 1.6}


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
@pytest.mark.parametrize("images_in", ["ball", "ball and box"])
def test_finds_the_distance_of_a_linear_model(spec: str, targeted: bool, images_in: str) -> None:
    norm = NORM.get(spec, spec[-1] if spec[-1] != "f" else "inf")
    images = grey_and_boxed(6)[images_in]
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


class Pixels(nn.Module):
    """A segmenter of two classes, whose lead at a pixel is w x - b of that pixel."""

    weight = torch.tensor([0.5, -1.0, 2.0])

    def forward(self, images: Tensor) -> Tensor:
        lead = (images * self.weight.view(3, 1, 1)).sum(1, keepdim=True) - 0.75
        return torch.cat([torch.zeros_like(lead), lead], 1)  # (N, 2, H, W)


@pytest.mark.parametrize("spec", ALL)
@pytest.mark.parametrize(("share", "targeted"), [(0.5, True), (0.9, False), (1.0, False)])
def test_finds_the_distance_at_which_a_share_of_the_pixels_of_a_mask_falls(
    spec: str, share: float, targeted: bool
) -> None:
    images = 0.5 + 0.1 * torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(3))  # the box is far
    says = Pixels()(images).argmax(1)
    truth = says.clone()
    truth[:, 0], truth[1] = IGNORE, torch.where(says[1] == 1, says[1], IGNORE)
    labels = torch.where(truth == IGNORE, IGNORE, 1 - truth) if targeted else truth
    attack = threat(f"{spec}{',' if ':' in spec else ':'}steps=200,share={share},targeted={str(targeted).lower()}")
    found = attack(Pixels(), images, labels)
    norm, weight = NORM.get(spec, spec.rpartition("=")[2]), Pixels.weight.double()
    slope = {"inf": weight.abs().sum(), "2": weight.norm(), "1": weight.abs().max(), "0": torch.tensor(1.0)}
    for i in range(3):
        valid = truth[i] != IGNORE
        lead = (Pixels()(images)[i, 1].double() / slope[norm]).abs()[valid].sort()[0]
        needed = lead[: math.ceil(share * len(lead) - 1e-9)]
        wanted = {"inf": needed[-1], "2": needed.norm(), "1": needed.sum(), "0": float(len(needed))}[norm]
        fell = (Pixels()(found)[i].argmax(0) != truth[i])[valid]
        assert int(fell.sum()) >= len(needed)
        ratio = float(norm_named(norm).length(found - images)[i] / wanted)
        assert 0.999 <= ratio <= RATIO_OF_MASKS[spec], (i, ratio)


def test_how_many_pixels_may_go_on_standing() -> None:
    labels = torch.zeros(2, 10, 20, dtype=torch.long)
    labels[1, 5:] = IGNORE
    for wrong, share, falls in ((198, 0.99, True), (197, 0.99, False), (199, 1.0, False), (200, 1.0, True)):
        logits = torch.zeros(2, 2, 200)
        logits[:, 0], logits[:, 1, :wrong] = 0.5, 1.0
        assert fallen(logits.view(2, 2, 10, 20), labels, targeted=False, share=share).tolist() == [falls, True]


def test_mistakes() -> None:
    for share in (0.0, 1.1):
        with pytest.raises(UserError, match=r"write share=0\.99"):
            DDN(share=share)
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


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("label", [1, 255])
def test_what_falls_by_less_than_rounding_has_not_fallen(label: int, targeted: bool) -> None:
    images, logits = torch.rand(3, 1, 2, 2), torch.zeros(3, 300)
    ahead, behind = (label, 7) if targeted else (7, label)
    logits[:, behind] = 10
    logits[:, ahead] = torch.tensor([10 + 1e-2, 10 + 4e-6, 10 - 1e-2])
    nearest = Nearest(images, torch.full((3,), label), targeted, norm_named("2"))
    assert nearest.offer(images, logits).tolist() == [True, False, False]
