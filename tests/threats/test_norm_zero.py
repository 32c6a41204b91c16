"""The norm 0: projection against all choices of coordinates, steps against what is best to do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threat_oracles import Exact, Linear, grey_and_boxed, highest
from torch import Tensor

from vallum.images import Draws
from vallum.threats import threat
from vallum.threats.losses import margin
from vallum.threats.norms import norm_named

ZERO = norm_named("0")
SIX = st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6)


@given(SIX, SIX, st.integers(0, 6))
def test_projection_is_the_nearest_of_all_choices(delta: list[float], image: list[float], k: int) -> None:
    one = torch.tensor(delta).view(1, 1, 2, 3)
    clean = torch.tensor(image).abs().view(1, 1, 2, 3)
    found = ZERO.project(one, torch.tensor([float(k)]), -clean, 1 - clean)
    boxed = one.clamp(-clean, 1 - clean).flatten()
    nearest = min(
        float((torch.where(torch.tensor([i in chosen for i in range(6)]), boxed, 0) - one.flatten()).square().sum())
        for chosen in itertools.combinations(range(6), k)
    )
    assert int(ZERO.length(found)[0]) <= k
    assert float((found - one).square().sum()) == pytest.approx(nearest, abs=1e-6)


def test_a_random_start_is_inside() -> None:
    clean = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    eps = torch.tensor([0.0, 1.0, 7.9, 20.0, 48.0])
    start = ZERO.random(Draws(0, range(5)), eps, -clean, 1 - clean)
    assert ZERO.length(start).tolist() == [0, 1, 7, 20, 48]
    assert bool(((clean + start >= 0) & (clean + start <= 1)).all())


@pytest.mark.parametrize("eps", [1, 10, 25, 108])
def test_one_step_is_the_optimum_of_a_linear_model_and_pgd_stays_there(eps: int) -> None:
    images, labels = grey_and_boxed(4)["ball and box"], torch.zeros(4, dtype=torch.long)
    model = Linear(torch.randn(2, 108, generator=torch.Generator().manual_seed(5)))
    weight = (model.weight[1] - model.weight[0]).detach().double().numpy()
    before = margin(model(images), labels).detach()
    wanted = [highest("0", weight, eps, *(side.flatten().double().numpy() for side in (-x, 1 - x))) for x in images]
    attacks = {"fgsm:": 1.0, "pgd:early_stop=false,": 0.95, "momentum:": 0.85}
    for kind, ratio in attacks.items():
        attack = threat(f"{kind}eps={eps},norm=0,loss=margin")
        gained = (margin(model(attack(model, images, labels)), labels) - before).detach().numpy()
        assert (gained >= ratio * np.array(wanted) - 1e-4).all(), (gained, wanted)
        assert (gained <= np.array(wanted) + 1e-3).all()


def test_the_first_start_is_the_image_and_others_are_random() -> None:
    images, labels, asked = grey_and_boxed(4)["ball and box"], torch.zeros(4, dtype=torch.long), list[Tensor]()

    def model(points: Tensor) -> Tensor:
        asked.append(points.detach().clone())
        return Exact()(points)

    found = threat("pgd:eps=6,norm=0,steps=4,early_stop=false,restarts=2")(model, images, labels)
    assert torch.equal(asked[0], images)
    assert ZERO.length(asked[5] - images).tolist() == [6] * 4
    assert int(ZERO.length(found - images).max()) <= 6
