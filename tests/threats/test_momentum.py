"""Momentum and FGSM against their formulas, diverse inputs against where a pixel must land."""

from __future__ import annotations

import pytest
import torch
from threat_oracles import EPS, SHAPE, Exact, Linear, drawn, grey_and_boxed, optimum

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.threats import FGSM, Momentum
from vallum.threats.losses import cross_entropy, margin
from vallum.threats.momentum import diverse


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize("attack", [FGSM, Momentum])
@pytest.mark.parametrize("images_in", ["ball", "ball and box"])
def test_reaches_the_optimum_of_a_linear_model(norm: str, attack: type[FGSM | Momentum], images_in: str) -> None:
    images, labels = grey_and_boxed(4)[images_in], torch.zeros(4, dtype=torch.long)
    model = Linear(drawn(2, 108) / 8)
    before, wanted = optimum(norm, model, images, EPS[norm])
    found = margin(model(attack(eps=EPS[norm], norm=norm)(model, images, labels).double()), labels).detach()
    reached = (found - before) / (wanted - before)
    # Steps that leave out what the box forbids later on come to lie inside the ball of the norm 2.
    cut_short = attack is Momentum and norm == "2" and images_in == "ball and box"
    assert float(reached.min()) >= (0.74 if cut_short else 0.999)
    assert float(reached.max()) <= 1 + 1e-4


def test_momentum_is_the_formula_of_its_paper() -> None:
    images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model, labels = Exact(), torch.tensor([0, 1, 2])
    eps, steps, decay = 0.05, 4, 0.7
    point, velocity = images.clone(), torch.zeros_like(images)
    for _ in range(steps):
        point = point.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(model(point), labels).sum(), point)
        velocity = decay * velocity + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        point = (point.detach() + eps / steps * velocity.sign()).clamp(images - eps, images + eps).clamp(0, 1)
    found = Momentum(eps=eps, steps=steps, decay=decay)(model, images, labels)
    torch.testing.assert_close(found, point)


def test_fgsm_from_a_random_start_stays_in_the_ball_and_differs_by_seed() -> None:
    model, images, labels = Exact(), torch.rand(4, *SHAPE), torch.zeros(4, dtype=torch.long)
    one, other = (FGSM(eps=0.1, random_start=True, seed=seed)(model, images, labels) for seed in (0, 1))
    assert float((one - images).abs().max()) <= 0.1 + 1e-6
    assert not torch.equal(one, other)


def test_diverse_inputs_shrink_and_shift_each_image_for_itself() -> None:
    images = torch.ones(40, 3, 20, 24)
    labels = torch.ones(40, 20, 24, dtype=torch.long)
    shown, moved = diverse(images, labels, 0.5, Draws(0, range(40)))
    changed = (shown != 1).flatten(1).any(1)
    assert 8 < int(changed.sum()) < 32
    assert bool((shown[changed].mean((1, 2, 3)) > 0.8).all())
    assert bool(((moved == 1) | (moved == IGNORE)).all())
    assert torch.equal((moved == IGNORE).flatten(1).any(1), changed) or bool(
        ((moved == IGNORE).flatten(1).any(1) <= changed).all()
    )
    alone, _ = diverse(images[7:8], labels[7:8], 0.5, Draws(0, [7]))
    assert torch.equal(alone[0], shown[7])
    same, kept = diverse(images, labels, 0.0, Draws(0, range(40)))
    torch.testing.assert_close(same, images)
    assert torch.equal(kept, labels)


def test_an_attack_with_diverse_inputs_depends_on_its_seed_alone() -> None:
    model, images, labels = Exact(), torch.rand(6, *SHAPE), torch.zeros(6, dtype=torch.long)
    one, again, other = (
        Momentum(eps=0.1, diversity=1.0, seed=seed)(model, images, labels, range(6)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_mistakes() -> None:
    with pytest.raises(UserError, match="diversity=2: a probability"):
        Momentum(eps=0.1, diversity=2.0)
    with pytest.raises(UserError, match="decay=-1"):
        Momentum(eps=0.1, decay=-1.0)
