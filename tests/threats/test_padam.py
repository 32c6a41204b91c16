"""Projected Adam against the optimum of linear models."""

from __future__ import annotations

import pytest
import torch
from threat_oracles import EPS, Linear, drawn, grey_and_boxed, optimum

from vallum.threats import PAdam
from vallum.threats.losses import margin


@pytest.mark.parametrize(("norm", "ratio"), [("inf", 0.99), ("2", 0.7)])
@pytest.mark.parametrize("where", ["ball", "ball and box"])
def test_comes_near_the_optimum_of_a_linear_model(norm: str, ratio: float, where: str) -> None:
    images, model = grey_and_boxed(4)[where], Linear(drawn(2, 108) / 4)
    labels = torch.zeros(4, dtype=torch.long)
    before, best = optimum(norm, model, images, EPS[norm])
    found = PAdam(eps=EPS[norm], norm=norm, loss="margin", early_stop=False)(model, images, labels)
    gained = ((margin(model(found), labels).double() - before) / (best - before)).detach()
    assert float(gained.min()) >= ratio, gained
    assert float(gained.max()) <= 1.0001
