"""SPSA on linear models, where its estimate can be worked out and the optimum is known."""

from __future__ import annotations

import pytest
import torch
from threat_oracles import EPS, SHAPE, Exact, Linear, drawn, grey_and_boxed, optimum
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.threats import SPSA
from vallum.threats.losses import loss_named, margin
from vallum.threats.spsa import random_signs


@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("room", ["ball", "ball and box"])
@pytest.mark.parametrize("targeted", [False, True])
def test_comes_near_the_optimum_of_a_linear_model(norm: str, room: str, targeted: bool) -> None:
    images, labels = grey_and_boxed(4)[room], torch.zeros(4, dtype=torch.long)
    model = Linear(drawn(2, 108) / 8)
    before, wanted = optimum(norm, model, images, EPS[norm])
    attack = SPSA(eps=EPS[norm], norm=norm, steps=20, directions=64, targeted=targeted, early_stop=False)
    found = margin(model(attack(model, images, labels + targeted).double()), labels).detach()
    reached = (found - before) / (wanted - before)
    assert float(reached.min()) >= 0.93, reached
    assert float(reached.max()) <= 1 + 1e-4


def test_the_estimate_is_the_mean_of_the_gradient_along_the_directions() -> None:
    model, images = Linear(drawn(2, 108).double()), torch.rand(3, *SHAPE, dtype=torch.float64)
    labels, draws, attack = torch.zeros(3, dtype=torch.long), Draws(0, range(3)), SPSA(eps=0.1, directions=70)
    gradient = (model.weight[1] - model.weight[0]).detach()  # of the margin
    signs = random_signs(draws, 70, images).flatten(2)  # (N, 70, D)
    wanted = torch.einsum("nkd,d,nke->ne", signs, gradient, signs) / 70
    found = attack.slope(model, loss_named("margin"), images, labels, draws)
    torch.testing.assert_close(found.flatten(1), wanted)


def test_signs_are_fair_and_each_image_has_its_own() -> None:
    signs = random_signs(Draws(1, range(4)), 50, torch.zeros(4, 3, 7, 5))
    assert sorted(signs.unique().tolist()) == [-1, 1]
    assert float(signs.mean().abs()) < 0.03  # of 21000, so six standard deviations are 0.04
    assert len({tuple(row.flatten().tolist()) for row in signs}) == 4


def test_it_asks_for_as_many_passes_as_it_says_and_for_no_gradient() -> None:
    images, asked = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0)), []

    def watched(points: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert bool(((points >= 0) & (points <= 1)).all())
        asked.append(len(points))
        return Exact()(points)

    attack = SPSA(eps=0.05, steps=4, directions=40, early_stop=False)
    attack(watched, images, Exact()(images).argmax(1))
    assert sum(asked) == 5 * attack.passes
    asked.clear()
    SPSA(eps=1.0, steps=4, directions=40)(watched, images, (Exact()(images).argmax(1) + 1) % 3)
    assert asked == [5], "what has fallen already costs one look"


def test_mistakes() -> None:
    for wrong, says in (
        ({"directions": 0}, "at least 1"),
        ({"probe": 1.0}, "between 0 and a half"),
        ({"decay": 2}, "share"),
    ):
        with pytest.raises(UserError, match=says):
            SPSA(eps=0.1, **wrong)
