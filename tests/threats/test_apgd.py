"""Auto-PGD against the closed-form optimum of linear models, its schedule against the paper's, and its promises."""

from __future__ import annotations

import math

import pytest
import torch
from threat_oracles import EPS, SHAPE, Exact, Linear, drawn, grey_and_boxed, optimum
from torch import Tensor

from vallum.threats import APGD, TargetedAPGD, threat
from vallum.threats.climb import Momentum, Rows, phases
from vallum.threats.losses import fallen, margin
from vallum.threats.norms import norm_named

norms = pytest.mark.parametrize("norm", EPS)


def curved(n: int = 24) -> tuple[Exact, Tensor, Tensor]:
    images = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return Exact(), images, Exact()(images).argmax(1)


@norms
@pytest.mark.parametrize("where", ["ball", "ball and box"])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize(("name", "loss"), [("apgd", "margin"), ("apgd_targeted", "margin")])
def test_reaches_the_optimum_of_a_linear_model(norm: str, where: str, classes: int, name: str, loss: str) -> None:
    images, eps = grey_and_boxed(4)[where], EPS[norm]
    bias = torch.tensor([0.0, 0.5, -0.5, -1.0, -1.5])[:classes]
    model = Linear(drawn(classes, math.prod(SHAPE)) / 8, bias)
    before, wanted = optimum(norm, model, images, eps)
    labels = torch.zeros(len(images), dtype=torch.long)
    kinds = {"eps": eps, "norm": norm, "loss": loss, "early_stop": False}
    attack = APGD(**kinds) if name == "apgd" else TargetedAPGD(**kinds)
    found = margin(model(attack(model, images, labels).double()), labels).detach()
    reached = (found - before) / (wanted - before)
    # DLR bends a linear model: where it is highest the margin need not be.
    assert float(reached.min()) >= (0.97 if norm == "1" else 0.99), reached
    assert float(reached.max()) <= 1 + 1e-4, reached


@norms
def test_targeted_means_targeted(norm: str) -> None:
    images = grey_and_boxed(6)["ball and box"]
    model = Linear(drawn(3, math.prod(SHAPE)) / 4)
    labels = torch.arange(6) % 3
    attack = APGD(eps=10 * EPS[norm] if norm != "inf" else 0.5, norm=norm, loss="margin", targeted=True)
    assert torch.equal(model(attack(model, images, labels)).argmax(1), labels)


def test_checks_come_when_the_paper_says() -> None:
    rows = Rows.begin(*(torch.zeros(1, 1, 1, 1) if wide else torch.zeros(1) for wide in (0, 1, 0, 0, 0, 1)))
    pace, at, checks = Momentum(norm_named("inf"), rows, 100), 0, []
    while at + pace.period <= 100:
        at += pace.period
        checks.append(at)
        pace.check(rows)
    # p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06), in steps of 100
    wanted, length, place = [], 22, 22
    while place <= 100:
        wanted.append(place)
        length = max(length - 3, 6)
        place += length
    assert checks == wanted


@pytest.mark.parametrize(
    ("rises", "top", "checked", "slowed", "halves"),
    [
        (16, 2.0, 1.0, False, True),  # too few steps went up: 16 < 0.75 * 22
        (17, 2.0, 1.0, False, False),
        (17, 1.0, 1.0, False, True),  # nothing gained, and the step is what it was
        (17, 1.0, 1.0, True, False),  # nothing gained, but the step was halved last time
    ],
)
def test_the_step_is_halved_on_either_condition(
    rises: int, top: float, checked: float, slowed: bool, halves: bool
) -> None:
    rows = Rows.begin(*(torch.ones(1, 1, 1, 1) if wide else torch.ones(1) for wide in (0, 1, 0, 0, 0, 1)))
    pace = Momentum(norm_named("inf"), rows, 100)
    rows.rises, rows.top_value = torch.tensor([rises]), torch.tensor([top])
    rows.checked_value, rows.slowed = torch.tensor([checked]), torch.tensor([slowed])
    rows.top, rows.top_gradient = torch.full((1, 1, 1, 1), 7.0), torch.full((1, 1, 1, 1), 5.0)
    pace.check(rows)
    assert rows.step.item() == (1.0 if halves else 2.0)
    assert rows.delta.item() == (7.0 if halves else 1.0)  # back to the best point
    assert rows.gradient.item() == (5.0 if halves else 0.0)
    assert rows.slowed.item() is halves


def test_larger_balls_come_first_and_the_steps_are_the_same_in_all() -> None:
    assert phases(100, norm_named("1"), True) == [(3.0, 30), (2.0, 30), (1.0, 40)]
    assert phases(100, norm_named("inf"), True) == [(2.0, 30), (1.5, 30), (1.0, 40)]
    assert phases(100, norm_named("1"), False) == [(1.0, 100)]


@pytest.mark.parametrize("spec", ["apgd:loss=margin", "apgd_targeted:loss=margin,classes=2"])
@norms
def test_early_stop_lets_the_same_images_fall(spec: str, norm: str) -> None:
    model, images, labels = curved()
    eps = {"inf": 0.1, "2": 0.2, "1": 0.3}[norm]
    stopped, full = (
        threat(f"{spec},eps={eps},norm={norm},steps=12,early_stop={stop}")(model, images, labels)
        for stop in ("true", "false")
    )
    fell, fell_in_full = (fallen(model(found), labels, targeted=False) for found in (stopped, full))
    assert 0 < int(fell.sum()) < len(images)
    assert torch.equal(fell, fell_in_full)
    assert torch.equal(stopped[~fell], full[~fell])


@norms
def test_a_radius_for_each_image_is_that_image_alone_with_its_radius(norm: str) -> None:
    model, images, labels = curved(6)
    eps = torch.linspace(0, 0.3, 6)
    together = TargetedAPGD(eps=eps, norm=norm, steps=12, loss="margin")(model, images, labels, range(6))
    for i in range(6):
        alone = TargetedAPGD(eps=float(eps[i]), norm=norm, steps=12, loss="margin")
        assert torch.equal(alone(model, images[i : i + 1], labels[i : i + 1], [i])[0], together[i])


def test_more_restarts_never_find_less() -> None:
    model, images, labels = curved()
    found = [
        margin(
            model(APGD(eps=0.1, steps=8, loss="margin", restarts=r, early_stop=False)(model, images, labels)), labels
        )
        for r in (1, 3)
    ]
    assert bool((found[1] >= found[0]).all())
