"""The cascade: never weaker than its parts, honest about its precision, and not fooled by a gradient that lies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from threat_oracles import EPS, Exact, ExactPixels, Linear, drawn, grey_and_boxed, optimum
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.threats import APGD, Square, Strong, TargetedAPGD, threat
from vallum.threats.losses import fallen
from vallum.threats.segmentation_losses import lost_overlap, wrong_share
from vallum.threats.strong_segmentation import read_shares, shares_of


def curved(n: int = 20) -> tuple[Exact, Tensor, Tensor]:
    images = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return Exact(), images, Exact()(images).argmax(1)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.08), ("2", 0.15), ("1", 0.25)])
def test_everything_falls_that_a_long_attack_makes_fall(norm: str, eps: float) -> None:
    model, images, labels = curved()
    fell = fallen(model(Strong(eps=eps, norm=norm)(model, images, labels)), labels, targeted=False)
    assert 0 < int(fell.sum()) < len(images)
    for attack in (
        APGD(eps=eps, norm=norm),
        TargetedAPGD(eps=eps, norm=norm),
    ):
        by_it = fallen(model(attack(model, images, labels)), labels, targeted=False)
        assert not bool((by_it & ~fell).any()), attack.spec


@pytest.mark.parametrize(("norm", "classes"), [("inf", 2), ("inf", 12), ("2", 3), ("1", 3)])
def test_on_a_linear_model_an_image_falls_exactly_if_it_can(norm: str, classes: int) -> None:
    images, labels = grey_and_boxed(2)["ball and box"], torch.zeros(2, dtype=torch.long)
    model = Linear(drawn(classes, 108) / 8)
    _, best = optimum(norm, model, images, EPS[norm])
    # Put the boundary just within reach for some of the images and just beyond it for the others.
    for shift, falls in ((0.02, True), (-0.02, False)):
        for i in range(2):
            bias = torch.zeros(classes)
            bias[0] = float(best[i]) - shift
            with torch.no_grad():
                model.bias.copy_(bias)
            found = Strong(eps=EPS[norm], norm=norm, effort=0.5)(model, images[i : i + 1], labels[:1], [i])
            assert bool(fallen(model(found), labels[:1], targeted=False)[0]) is falls


class Masked(nn.Module):
    """A model whose gradient is zero everywhere, though small changes of the image make it fall."""

    def forward(self, images: Tensor) -> Tensor:
        steps = (images * 255).round() / 255  # no gradient passes a rounding
        return torch.stack([steps.mean((1, 2, 3)), 0.49 + 0.0 * images.mean((1, 2, 3))], 1)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 6 / 255), ("2", 1.0), ("1", 6.0)])
def test_where_the_gradient_is_of_no_use_random_search_decides(norm: Any, eps: float) -> None:
    images, labels = torch.full((4, 3, 8, 8), 0.5), torch.zeros(4, dtype=torch.long)
    model = Masked()
    assert not bool(fallen(model(APGD(eps=eps, norm=norm)(model, images, labels)), labels, targeted=False).all())
    for attack in (Strong(eps=eps, norm=norm), Square(eps=eps, norm=norm, queries=500)):
        assert bool(fallen(model(attack(model, images, labels)), labels, targeted=False).all())


def test_a_fall_that_only_half_precision_saw_does_not_count() -> None:
    class Wavering(nn.Module):
        """Answers wrongly, but only in half precision."""

        def forward(self, images: Tensor) -> Tensor:
            half = torch.is_autocast_enabled("cpu")
            own = images.mean((1, 2, 3)) * 1e-3 + (0.0 if half else 1.0)
            return torch.stack([own, torch.full_like(own, 0.5)], 1)

    images, labels = torch.rand(4, 3, 6, 6), torch.zeros(4, dtype=torch.long)
    found = Strong(eps=0.1, precision="bfloat16", effort=0.1)(Wavering(), images, labels)
    assert not bool(fallen(Wavering()(found), labels, targeted=False).any())
    model, images, labels = curved()
    fell = [
        fallen(model(Strong(eps=0.08, precision=p)(model, images, labels)), labels, targeted=False)
        for p in ("float32", "bfloat16")
    ]
    assert torch.equal(*fell)


def test_of_a_segmenter_no_fewer_pixels_fall_than_to_any_one_loss() -> None:
    images = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    labels = ExactPixels()(images).argmax(1)
    labels[:, 0] = 255
    model, eps = ExactPixels(), 0.03
    wrong = wrong_share(model(Strong(eps=eps)(model, images, labels)), labels)
    for loss in ("cross_entropy", "margin"):
        other = wrong_share(model(APGD(eps=eps, loss=loss)(model, images, labels)), labels)
        assert bool((wrong >= other).all()), (loss, wrong, other)
    more = wrong_share(model(Strong(eps=eps, exhaustive=True, effort=0.2)(model, images, labels)), labels)
    assert bool((more >= wrong - 0.011).all())


def test_of_a_segmenter_the_lowest_miou_is_no_higher_than_where_the_accuracy_is_lowest() -> None:
    images = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    model, labels = ExactPixels(), ExactPixels()(images).argmax(1)
    lost = {
        lowest: lost_overlap(model(Strong(eps=0.03, lowest=lowest, effort=0.3)(model, images, labels)), labels)
        for lowest in ("accuracy", "miou")
    }
    assert float(lost["miou"].mean()) > 0
    assert bool((lost["miou"] >= lost["accuracy"] - 1e-9).all())


class Torn(nn.Module):
    """The brighter the image the sooner its left part is lost to a third class, the darker the right part."""

    def forward(self, images: Tensor) -> Tensor:
        tilt = (40 * (images.mean((1, 2, 3)) - 0.5)).view(-1, 1, 1)
        left = (torch.arange(images.shape[3]) < 12).expand(images[:, 0].shape)
        own = torch.where(left, 1 - tilt, 1 + tilt)
        return torch.stack([own.where(left, -1), own.where(~left, -1), 0 * own], 1)


@pytest.mark.parametrize(("shares", "lost"), [("(0.02,0.98,0)", 0), ("(0.98,0.02,0)", 1)])
def test_told_how_common_the_classes_are_the_one_that_is_rare_elsewhere_is_driven_out(shares: str, lost: int) -> None:
    images = torch.full((2, 3, 4, 20), 0.5)
    labels = Torn()(images).argmax(1)
    attack = Strong(eps=0.03, lowest="miou", effort=0.3, shares=shares)
    assert threat(attack.spec) == attack
    said = Torn()(attack(Torn(), images, labels)).argmax(1)
    assert torch.equal(said, torch.where(labels == lost, 2, labels))


def test_shares_are_those_of_pixels_with_a_label_one_for_each_class() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 255]]])
    assert read_shares(shares_of(labels, 3)).tolist() == pytest.approx([0.75, 0.25, 0.0])
    images = torch.full((1, 3, 4, 20), 0.5)
    with pytest.raises(UserError, match="2 shares for 3 classes"):
        Strong(eps=0.03, lowest="miou", shares="(0.5,0.5)")(Torn(), images, Torn()(images).argmax(1))
    for wrong in ("(0.5,some)", "(0,0)", "(1,-1)", "(inf,1)"):
        with pytest.raises(UserError, match="one number for each class"):
            Strong(eps=0.03, lowest="miou", shares=wrong)
    with pytest.raises(UserError, match="write lowest=miou"):
        Strong(eps=0.03, shares="(0.5,0.5)")


def test_of_a_segmenter_what_half_precision_liked_is_judged_by_the_model() -> None:
    class Wavering(nn.Module):
        """In half precision it says the opposite."""

        def forward(self, images: Tensor) -> Tensor:
            lead = (images.mean(1, keepdim=True) - 0.5) * (-1 if torch.is_autocast_enabled("cpu") else 1)
            return torch.cat([lead, -lead], 1)

    images, model = torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0)), Wavering()
    labels = (torch.rand(4, 10, 10, generator=torch.Generator().manual_seed(1)) < 0.5).long()
    found = Strong(eps=0.1, precision="bfloat16", effort=0.2)(model, images, labels)
    assert bool((wrong_share(model(found), labels) >= wrong_share(model(images), labels)).all())


@pytest.mark.parametrize("exhaustive", [False, True])
@pytest.mark.parametrize("norm", ["inf", "1"])
def test_passes_are_counted_as_they_happen_for_both_tasks(exhaustive: bool, norm: str) -> None:
    passes = {"forward": 0, "backward": 0}

    def counted(logits: Tensor) -> Tensor:
        passes["forward"] += 1
        if logits.requires_grad:
            logits.register_hook(lambda gradient: passes.update(backward=passes["backward"] + 1))
        return logits

    def unmoved(images: Tensor) -> Tensor:
        return counted(torch.arange(12.0) + 0 * images.mean((1, 2, 3))[:, None])

    def pixels(images: Tensor) -> Tensor:
        return counted(ExactPixels()(images))

    attack = Strong(eps=0.02, norm=norm, exhaustive=exhaustive, effort=0.2)
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    for segments, model, labels in (
        (False, unmoved, torch.full((2,), 11)),
        (True, pixels, ExactPixels()(images).argmax(1)),
    ):
        passes.update(forward=0, backward=0)
        attack(model, images, labels)
        spent = passes["forward"] + 2 * passes["backward"]
        assert attack.passes_for(segments) == pytest.approx(spent, rel=0.02), segments
    assert Strong(eps=0.1).passes_for(segments=True) == 737
    assert Strong(eps=0.1, exhaustive=True).passes_for(segments=True) == 6329


def test_mistakes_and_passes() -> None:
    with pytest.raises(UserError, match="effort=0"):
        Strong(eps=0.1, effort=0.0)
    assert Strong(eps=0.1).passes < Strong(eps=0.1, exhaustive=True).passes / 10
