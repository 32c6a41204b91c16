"""How a repair is attacked: every way in has a gradient that says something, and says it about the repair."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from repair_toys import THREE, Suns, pictures, untrained
from torch import Tensor

import vallum
from vallum.defences import SelfSupervised
from vallum.defences.base import surfaces_of
from vallum.defences.chance import drawing
from vallum.defences.self_supervision.stand_ins import Hybrid, TaskAware, Trajectory, Unrolled, WrongFeatures
from vallum.defences.stand_ins import Averaged
from vallum.evaluation.passes import Counted
from vallum.models import Model
from vallum.threats import APGD, PGD, Strong
from vallum.threats.losses import cross_entropy

LABELS = torch.arange(6) % 4
IMAGES = pictures(6)


def names(defence: SelfSupervised, thorough: bool = True) -> list[str]:
    return [surface.name for surface in surfaces_of(defence, thorough)]


def slope(model: Model, images: Tensor) -> Tensor:
    """The gradient that every attack follows, of any loss with whatever reward the answer carries."""
    images = images.detach().clone().requires_grad_()
    loss = cross_entropy(model(images), LABELS[: len(images)]).sum()
    return torch.autograd.grad(loss, images)[0]


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return F.cosine_similarity(one.flatten(1), other.flatten(1), dim=1)


def test_all_ways_in_are_run_where_all_is_asked_for_and_a_few_otherwise(defence: SelfSupervised) -> None:
    everything = names(defence)
    few = names(defence, thorough=False)
    assert len(everything) == len(set(everything))
    rewards = {f"task-aware {reward}" for reward in ("0.1", "0.3", "1", "3", "10", "30", "100")}
    alone = {"only contrastive", "only rotation", "only inpainting"}
    ways = {"direct", "trajectory", "hybrid 0.3", "hybrid 3", "unrolled", "features", "black-box", "transfer"}
    assert set(everything) == ways | rewards | alone
    assert set(few) == {"direct", "trajectory", "hybrid 0.3", "unrolled", "black-box", "transfer"}
    random = defence.tuned(random=True)
    assert set(names(random)) - set(everything) == {"expectation", "known draw"}
    averaged = [surface for surface in random.attack_surfaces() if isinstance(surface.through, Averaged)]
    assert {surface.name for surface in averaged} == {*everything, "expectation"} - {"direct", "black-box", "transfer"}
    for knob in ("gate", "stop"):  # what rests on them must meet an attacker who pleases them
        assert "hybrid 3" in names(defence.tuned(**{knob: 0.5}), thorough=False)
    assert "features" not in names(untrained(THREE))


def test_every_way_in_has_a_gradient_of_its_own(defence: SelfSupervised) -> None:
    images = IMAGES[:2]
    random = defence.tuned(random=True, start="uniform")
    random.average_over = 2
    for tuned in (defence, random, defence.tuned(norm="2", budget=1.0)):
        ignorant = slope(tuned.bare, images)
        surfaces = {surface.name: surface.through for surface in tuned.attack_surfaces()}
        found = {name: slope(through, images) for name, through in surfaces.items() if name != "black-box"}
        assert torch.equal(found.pop("transfer"), ignorant)
        for name, gradient in found.items():
            assert bool(gradient.isfinite().all()), name
            assert bool(gradient.flatten(1).any(1).all()), name
            assert bool((cosine(gradient, ignorant) < 0.9999).all()), name


def test_head_on_is_straight_through(defence: SelfSupervised) -> None:
    found = slope(defence, IMAGES)
    assert torch.allclose(found, slope(defence.model, defence.repaired(IMAGES).images), atol=1e-7)


def test_the_trajectory_is_the_mean_over_where_the_repair_came_by(defence: SelfSupervised) -> None:
    through = Trajectory(defence)
    assert torch.equal(through(IMAGES), defence(IMAGES))
    images = IMAGES.clone().requires_grad_()
    weights = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad((through(images) * weights).sum(), images)
    each = []
    for point in defence.repaired(IMAGES, keep_path=True).path:
        at = point.clone().requires_grad_()
        each.append(torch.autograd.grad((defence.model(at) * weights).sum(), at)[0])
    assert len(each) == defence.how.steps + 1
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-6)


@pytest.mark.parametrize("task", [None, 1])
def test_who_knows_the_tasks_is_paid_for_pleasing_them(defence: SelfSupervised, task: int | None) -> None:
    through, bare = TaskAware(defence, 3.0, task), defence.bare
    logits = through(IMAGES)
    assert torch.equal(logits, bare(IMAGES))
    objective = defence.objective
    with torch.no_grad():
        losses = torch.stack([objective.losses(defence.backbone, IMAGES, objective.fixed(step)) for step in range(4)])
        losses = losses.mean(0)
    z = (losses - objective.mean) / objective.std
    expected = cross_entropy(bare(IMAGES), LABELS) - 3.0 * (z.mean(1) if task is None else z[:, task])
    assert torch.allclose(cross_entropy(logits, LABELS), expected, atol=1e-5)
    # The gradient of the reward is there: that of a published attack was not.
    paid = slope(through, IMAGES) - slope(bare, IMAGES)
    assert bool(paid.flatten(1).any(1).all())
    ahead = IMAGES
    for _ in range(3):
        ahead = (ahead + 0.002 * slope(TaskAware(defence, 100.0, task), ahead).sign()).clamp(0, 1)
    with torch.no_grad():
        before, after = (TaskAware(defence, 1.0, task).reward(points).mean() for points in (IMAGES, ahead))
    assert float(after) > float(before) + 0.2


def test_the_reward_outlives_counting_and_averaging(defence: SelfSupervised) -> None:
    random = defence.tuned(random=True)
    through = Counted(Averaged(TaskAware(random, 2.0), 3))
    logits = through(IMAGES)
    rewards = []
    for number in range(3):
        with drawing(numbers=number):
            rewards.append(TaskAware(random, 2.0).reward(IMAGES))
    assert torch.allclose(logits.reward, torch.stack(rewards).mean(0), atol=1e-5)  # type: ignore[attr-defined]
    assert not torch.allclose(rewards[0], rewards[1])


def test_the_hybrid_answers_after_the_repair_and_is_paid_before_it(defence: SelfSupervised) -> None:
    logits = Hybrid(defence, 3.0)(IMAGES)
    assert torch.equal(logits, defence(IMAGES))
    assert torch.allclose(logits.reward, TaskAware(defence, 3.0)(IMAGES).reward)  # type: ignore[attr-defined]


def test_features_are_driven_towards_those_of_another_class(defence: SelfSupervised) -> None:
    objective = defence.objective
    assert set(objective.example_classes.tolist()) == {0, 1, 2, 3}
    through = WrongFeatures(defence)
    logits = through(IMAGES)
    assert torch.equal(logits, defence(IMAGES))
    features = defence.backbone(defence.repaired(IMAGES).images).pooled
    for i in range(6):
        wrong = objective.examples[objective.example_classes != logits[i].argmax()]
        nearest = wrong[(wrong - features[i]).abs().sum(1).argmin()]
        off = float(((features[i] - nearest).abs().mean() / objective.examples.abs().mean()).detach())
        assert float(logits.reward[i].detach()) == pytest.approx(-10 * off, rel=1e-4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("combine", "norm", "budget"),
    [("sum", "inf", 0.1), ("grad_norm", "inf", 0.1), ("pcgrad", "inf", 0.1), ("sum", "2", 1.0), ("sum", "1", 20.0)],
)
def test_the_unrolled_gradient_is_that_of_finite_differences(combine: str, norm: str, budget: float) -> None:
    defence = untrained(THREE, combine=combine, norm=norm, budget=budget, steps=3, random=False).double()
    through = Unrolled(defence, softest=0.5, over=0, hardest=0.5)
    images = (0.2 + 0.6 * IMAGES[:3].double()).requires_grad_()
    weights = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    (gradient,) = torch.autograd.grad((through(images) * weights).sum(), images)
    way = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)

    def value(step: float) -> float:
        with torch.no_grad():
            return float((through(images + step * way) * weights).sum())

    differences = (value(1e-6) - value(-1e-6)) / 2e-6
    assert float((gradient * way).sum()) == pytest.approx(differences, rel=2e-3)
    straight = slope(defence, images.detach()[:3])
    assert bool((cosine(gradient, straight) < 0.999).all())  # it says more than that the repair is not there


def test_unrolled_and_hard_it_is_the_repair_itself(defence: SelfSupervised) -> None:
    through = Unrolled(defence, hardest=1e-6, over=0)
    with torch.no_grad():
        assert torch.allclose(through(IMAGES), defence(IMAGES), atol=1e-2)
    soft = Unrolled(defence)
    with torch.no_grad():
        without = soft(IMAGES)
    assert torch.allclose(without, soft(IMAGES.clone().requires_grad_()), atol=1e-5)


def test_what_it_answers_goes_with_what_the_defence_answers(defence: SelfSupervised) -> None:
    """On images that are hard: correlated answers make its gradient worth following."""
    images = pictures(48)
    labels = torch.arange(48) % 4
    hard = PGD(8 / 255, steps=5, early_stop=False)(defence.bare, images, labels)
    with torch.no_grad():
        true, static = defence(hard), defence.bare(hard)
        through = Unrolled(defence, over=0)
        near = through(hard)

    def correlation(one: Tensor, other: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])

    assert correlation(near - static, true - static) > 0.9  # also in what the repair changes
    assert correlation(near, true) > 0.99


def test_it_hardens_while_an_attack_goes_on(defence: SelfSupervised) -> None:
    through = Unrolled(defence, steps=1, over=4)
    seen = []
    for _ in range(6):
        seen.append(through.softness)
        slope(through, IMAGES[:1])
    assert seen == pytest.approx([1.0, 10**-0.25, 10**-0.5, 10**-0.75, 0.1, 0.1])
    with torch.no_grad():
        through(IMAGES[:1])
    assert through.calls == 6  # only looking is no step


def test_through_long_repairs_attackers_go_a_shorter_way(defence: SelfSupervised) -> None:
    long = defence.tuned(steps=40)
    ways = long.stand_ins()
    assert ways["trajectory"].defence.how.steps == 10  # type: ignore[union-attr]
    assert ways["unrolled"].how.steps == 5  # type: ignore[union-attr]
    assert ways["trajectory"].weight < 0.5  # type: ignore[operator]


def test_attacks_go_on_where_only_the_stand_in_has_fallen(defence: SelfSupervised) -> None:
    ways = {surface.name: surface for surface in surfaces_of(defence)}
    assert ways["task-aware 1"].here(PGD(8 / 255)) == PGD(8 / 255, early_stop=False)
    assert ways["unrolled"].here(Strong(8 / 255, effort=0.5)) == APGD(8 / 255, steps=50, early_stop=False)
    assert ways["hybrid 3"].here(Strong(8 / 255)) == Strong(8 / 255)  # its answers are the defence's own
    attack = APGD(24 / 255, steps=8)
    images, labels = pictures(24), torch.arange(24) % 4
    pleased, ignorant = (
        ways[name].here(attack)(ways[name].through, images, labels)  # type: ignore[misc]
        for name in ("task-aware 100", "transfer")
    )
    with torch.no_grad():
        assert float(TaskAware(defence, 1.0).reward(pleased).mean()) > float(
            TaskAware(defence, 1.0).reward(ignorant).mean()
        )


@pytest.mark.slow
def test_the_worst_of_all_surfaces_is_what_counts(hardened: Path, tmp_path: Path) -> None:
    run = vallum.evaluate(
        {"repaired": vallum.load_model(hardened, trust=True)}, Suns(24, start=3000), [APGD(16 / 255, steps=8)], n=24,
        adaptive="full", out=tmp_path, progress=False,
    )  # fmt: skip
    left = {row["surface"]: row["value"] for row in run.summary if row["threat"].startswith("apgd")}
    assert left["union"] <= min(value for name, value in left.items() if name != "union")
    assert len(left) > 15


def test_threats_that_are_fitted_meet_it(tmp_path: Path) -> None:
    defence = untrained("rotation(hidden=32)", steps=1)
    attack = "universal:eps=16/255,steps=1,images=4,restarts=1,targets=0"
    run = vallum.evaluate(defence, Suns(8), attack, n=2, draws=1, undefended=False, out=tmp_path, progress=False)
    assert {found["surface"] for found in run.perturbations} == set(names(defence, thorough=False)) - {"black-box"}
