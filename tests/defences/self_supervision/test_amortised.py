"""The repair in one pass, and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from repair_toys import BUILD, SETTINGS, Suns, network, pictures, untrained

import vallum
from vallum.defences import AmortisedRepair, SelfSupervised
from vallum.defences.base import surfaces_of
from vallum.defences.self_supervision.guess import Guess, widest
from vallum.errors import UserError
from vallum.models import load_model

IMAGES = pictures(6)


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("amortised")
    tasks = "rotation(hidden=16,count=2)+inpainting(width=8)"
    recipe = f"self_supervision_amortised:tasks={tasks},heads_epochs=1,adversarial=0.3,attack_steps=2,most=2"
    how = {**SETTINGS, "epochs": 4}
    vallum.harden(network(), Suns(256), recipe, out=out, build=BUILD, **how)  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def amortised(distilled: Path) -> SelfSupervised:
    model = vallum.load_model(distilled, trust=True)
    assert isinstance(model, SelfSupervised)
    return model


def test_it_foretells_where_repairs_lead(amortised: SelfSupervised, distilled: Path) -> None:
    assert (amortised.how.start, amortised.how.steps) == ("guess", 0)
    images = pictures(32)
    teacher = amortised.tuned(start="zero", steps=5)
    wanted = teacher.repaired(images).images - images
    with torch.no_grad():
        found = amortised.guessed(images)
        off, nothing = (found - wanted).square().mean(), wanted.square().mean()
        assert float(off) < 0.9 * float(nothing)
        objective = amortised.objective
        before, after = (
            objective.standardised(objective.losses(amortised.backbone, points, objective.fixed(9))).mean()
            for points in (images, amortised.purify(images))
        )
        assert float(after) < float(before)
    heads = vallum.load_model(distilled / "heads", trust=True)
    assert isinstance(heads, SelfSupervised)
    assert (heads.how.start, heads.how.steps) == ("zero", 5)


def test_in_one_pass_its_gradient_is_exact(amortised: SelfSupervised) -> None:
    assert amortised.exact_gradient
    assert not amortised.randomised
    assert [s.name for s in surfaces_of(amortised)] == ["direct", "black-box", "transfer"]
    torch.manual_seed(3)
    defence = untrained("rotation", start="guess", steps=0, guess=8).double()
    with torch.no_grad():
        for p in defence.guess.parameters():  # type: ignore[union-attr]
            p += 0.05 * torch.randn(p.shape)
    images = (0.2 + 0.6 * IMAGES.double()).requires_grad_()
    weights = torch.randn(6, 4, dtype=torch.double)
    (gradient,) = torch.autograd.grad((defence(images) * weights).sum(), images)
    way = torch.randn(images.shape, dtype=torch.double)
    with torch.no_grad():
        ahead, behind = ((defence(images + step * way) * weights).sum() for step in (1e-6, -1e-6))
    assert float((gradient * way).sum()) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-4)


def test_some_steps_may_refine_it(amortised: SelfSupervised) -> None:
    refined = amortised.tuned(steps=2)
    assert {"trajectory", "unrolled"} <= {s.name for s in surfaces_of(refined)}
    assert not refined.exact_gradient
    path = refined.repaired(IMAGES, keep_path=True).path
    assert len(path) == 3
    assert float((path[-1] - IMAGES).abs().max()) <= 8 / 255 + 1e-6
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(refined(images).square().sum(), images)
    assert bool(gradient.flatten(1).any(1).all())
    with torch.no_grad():
        whole, alone = refined(IMAGES), refined(IMAGES[2:3])
    assert torch.allclose(whole[2], alone[0], atol=1e-3)
    gated = amortised.tuned(gate=1.0)
    assert not gated.exact_gradient
    assert bool((gated.repaired(IMAGES).images == IMAGES).flatten(1).all(1).any())


def test_it_is_kept_and_comes_back(amortised: SelfSupervised, tmp_path: Path) -> None:
    vallum.models.save_model(amortised.tuned(steps=1, budget=4 / 255), tmp_path)
    again = vallum.load_model(tmp_path, trust=True)
    assert torch.equal(again(IMAGES), amortised.tuned(steps=1, budget=4 / 255)(IMAGES))


def test_it_costs_less_than_three_passes() -> None:
    bare, images = load_model("builtin:signs_resnet"), torch.rand(4, 3, 32, 32)
    width = widest(bare, images, 1.5)
    defence = SelfSupervised(bare, "rotation", guess=width, start="guess", steps=0)
    assert 1.5 < defence.cost(images).passes <= 2.5 + 1e-6
    assert widest(bare, images, 0.0001) == 8
    assert Guess(3, 8)(torch.rand(1, 3, 7, 9)).shape == (1, 3, 7, 9)


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="no network guesses"):
        untrained("rotation").tuned(start="guess")
    with pytest.raises(UserError, match="leave it out"):
        AmortisedRepair(start="uniform")
    with pytest.raises(UserError, match="a positive number"):
        AmortisedRepair(most=0.0)
    assert AmortisedRepair(heads_epochs=0).before() == ()
