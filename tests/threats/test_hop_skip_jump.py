"""HopSkipJump: distances of linear models, from answers alone, within its queries."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from test_minimal import nearest
from threat_oracles import SHAPE, Exact, Linear, drawn, grey_and_boxed
from torch import Tensor

from vallum.errors import UserError
from vallum.threats import HopSkipJump
from vallum.threats.losses import fallen
from vallum.threats.norms import norm_named

RATIO = {"2": 1.06, "inf": 1.35}  # at 3000 queries


@pytest.mark.parametrize("norm", RATIO)
@pytest.mark.parametrize("targeted", [False, True])
def test_finds_the_distance_of_a_linear_model(norm: str, targeted: bool) -> None:
    images = grey_and_boxed(6)["ball"]
    model = Linear(drawn(2, math.prod(SHAPE)) / 4, torch.tensor([0.3, 0.0]))
    labels = model(images).argmax(1)
    attack = HopSkipJump(norm=norm, queries=3000, targeted=targeted)
    found = attack(model, images, 1 - labels if targeted else labels)
    assert bool(fallen(model(found), labels, targeted=False).all())
    distance = norm_named(norm).length(found - images)
    wanted = torch.tensor([nearest(norm, model, image, int(y)) for image, y in zip(images, labels, strict=True)])
    assert float((distance / wanted).min()) >= 0.999
    assert float((distance / wanted).max()) <= RATIO[norm], distance / wanted


@pytest.mark.parametrize("norm", RATIO)
def test_it_reads_nothing_but_the_answer(norm: str) -> None:
    images, attack = (
        torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0)),
        HopSkipJump(norm=norm, queries=200),
    )
    labels = Exact()(images).argmax(1)

    def answers(points: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return F.one_hot(Exact()(points).argmax(1), 3).float()

    assert torch.equal(attack(answers, images, labels), attack(Exact(), images, labels))


@pytest.mark.parametrize("norm", RATIO)
def test_no_image_costs_more_than_the_queries_and_more_of_them_find_nothing_farther(norm: str) -> None:
    images, model = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)), Exact()
    labels, before = model(images).argmax(1), torch.full((5,), torch.inf)
    for queries in (1, 7, 60, 300):
        asked = []

        def counted(points: Tensor, asked: list[int] = asked) -> Tensor:
            asked.append(len(points))
            assert bool(((points >= 0) & (points <= 1)).all())
            return model(points)

        found = HopSkipJump(norm=norm, queries=queries)(counted, images[:1], labels[:1])
        assert sum(asked) <= queries
        found = HopSkipJump(norm=norm, queries=queries)(model, images, labels)
        distance = norm_named(norm).length(found - images)
        fell = model(found).argmax(1) != labels
        assert bool((fell | (distance == 0)).all()), "an image that does not fall is left alone"
        distance = torch.where(fell, distance, torch.inf)
        assert bool((distance <= before).all())
        before = distance
    assert bool(before.isfinite().all())


@pytest.mark.parametrize("norm", RATIO)
def test_with_a_radius_an_image_is_inside_or_as_it_was_and_lets_go_once_inside(norm: str) -> None:
    images, model = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(0)), Exact()
    labels = model(images).argmax(1)
    free = norm_named(norm).length(HopSkipJump(norm=norm, queries=400)(model, images, labels) - images)
    eps = float(free.median()) * 1.01
    asked: list[int] = []

    def counted(points: Tensor) -> Tensor:
        asked.append(len(points))
        return model(points)

    found = HopSkipJump(norm=norm, queries=400, eps=eps)(counted, images, labels)
    distance, fell = norm_named(norm).length(found - images), model(found).argmax(1) != labels
    assert bool((distance <= eps).all())
    assert torch.equal(fell, free <= eps)
    assert torch.equal(found[~fell], images[~fell])
    assert sum(asked) < 0.9 * 8 * 400
    each = HopSkipJump(norm=norm, queries=400, eps=torch.where(free <= eps, free * 1.01, 0.0).float())(
        model, images, labels
    )
    assert torch.equal(model(each).argmax(1) != labels, fell)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="write eps=8/255"):
        HopSkipJump(norm="inf", eps=8)
    with pytest.raises(UserError, match="queries=0: at least 1"):
        HopSkipJump(queries=0)
