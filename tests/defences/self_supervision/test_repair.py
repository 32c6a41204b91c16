"""The repair: what it may and may not do to an image, alone or in a batch, whoever asks."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_toys import ALL, THREE, network, pictures, untrained
from torch import Tensor

from vallum.defences import Defence, SelfSupervised
from vallum.defences.chance import drawing
from vallum.defences.self_supervision import PRESETS, Repair
from vallum.errors import UserError
from vallum.images import Task
from vallum.models import weights_fingerprint
from vallum.threats import Strong
from vallum.threats.norms import NORMS

IMAGES = pictures(6)


def exact(tasks: str = ALL, **how: object) -> SelfSupervised:
    return untrained(tasks, **how).double()


def settled(tasks: str = THREE, **how: object) -> SelfSupervised:
    defence = untrained(tasks, **how)
    defence.objective.settle(defence.backbone, pictures(64))
    return defence


WAYS = [
    (*way, chance)
    for way in (("sum", "last"), ("grad_norm", "best"), ("pcgrad", "mean"))
    for chance in ((False, "zero"), (False, "uniform"), (True, "uniform"))
]


@pytest.mark.parametrize(("combine", "output", "chance"), WAYS)
def test_an_image_alone_and_in_any_batch_is_repaired_the_same(combine: str, output: str, chance: tuple) -> None:
    random, start = chance
    defence = exact(combine=combine, output=output, random=random, start=start, steps=3)
    images = IMAGES.double()
    whole = defence(images)
    order = torch.tensor([4, 2, 0])
    assert torch.allclose(defence(images[order]), whole[order], rtol=0, atol=1e-10)
    assert torch.allclose(defence(images[3:4]), whole[3:4], rtol=0, atol=1e-10)
    other = torch.cat([images[:1], torch.rand(5, 3, 16, 16, dtype=torch.double)])  # other neighbours altogether
    assert torch.allclose(defence(other)[0], whole[0], rtol=0, atol=1e-10)


def test_in_float32_rounding_turns_few_signs() -> None:
    defence = untrained(ALL)
    whole, alone = defence.repaired(IMAGES).images, [defence.repaired(one[None]).images[0] for one in IMAGES]
    differ = (whole - torch.stack(alone)).abs() > 1e-6
    assert float(differ.double().mean()) < 0.005


@settings(max_examples=12)
@given(
    norm=st.sampled_from(sorted(NORMS)),
    budget=st.floats(0, 0.2),
    steps=st.integers(0, 4),
    size=st.none() | st.floats(1e-3, 0.5),
    start=st.sampled_from(("zero", "uniform")),
    output=st.sampled_from(("last", "best", "mean")),
    schedule=st.sampled_from(("constant", "linear", "cosine")),
    random=st.booleans(),
)
def test_it_keeps_its_budget_and_the_box(norm: str, budget: float, steps: int, **how: object) -> None:
    size = how.pop("size")
    length = 1.0 if norm == "inf" else 10.0 if norm == "2" else 100.0
    defence = untrained("rotation+inpainting", norm=norm, budget=budget * length, steps=steps, step_size=size, **how)
    images = IMAGES.clone()
    images[0], images[1] = 0.0, 1.0
    found = defence.repaired(images)
    assert float(found.images.min()) >= 0
    assert float(found.images.max()) <= 1
    far = NORMS[norm].length(found.images.double() - images.double())
    assert float(far.max()) <= budget * length * (1 + 1e-5) + 1e-5 * length
    assert found.steps.tolist() == [steps] * 6


def test_without_steps_it_is_the_model_bit_for_bit() -> None:
    defence = untrained(THREE, start="uniform", random=True)
    off = defence.tuned(steps=0)
    assert torch.equal(off(IMAGES), defence.model(IMAGES))
    assert off.exact_gradient
    assert not off.randomised
    assert [surface.name for surface in off.attack_surfaces()] == ["direct", "black-box", "transfer"]
    assert torch.equal(defence.tuned(budget=0.0)(IMAGES), defence.model(IMAGES))


@pytest.mark.parametrize("random", [False, True])
def test_it_repeats_itself_bit_for_bit_and_changes_nothing(random: bool) -> None:
    defence = settled(random=random, start="uniform", output="best", stop=0.3)
    before, given_before = weights_fingerprint(defence), IMAGES.clone()
    first = defence(IMAGES)
    torch.rand(7)  # of torch's own, which it must not hang on
    assert torch.equal(defence(IMAGES), first)
    assert weights_fingerprint(defence) == before
    assert all(p.grad is None and p.requires_grad for p in defence.parameters())
    assert not any(module.training for module in defence.modules())
    assert torch.equal(IMAGES, given_before)
    with drawing(seed=5):
        assert torch.equal(defence(IMAGES), first) is not random
    # Also where the heads were left in training mode: no statistics of the batch, and none that move.
    defence.objective.train()
    assert torch.equal(defence(IMAGES), first)
    defence.objective.eval()
    assert weights_fingerprint(defence) == before


def test_it_works_whatever_mode_the_caller_is_in() -> None:
    defence = untrained(THREE)
    usual = defence(IMAGES).detach()
    with torch.no_grad():
        assert torch.equal(defence(IMAGES), usual)
    fresh = untrained(THREE)  # whose first draws are made in inference mode
    with torch.inference_mode():
        assert torch.equal(fresh(IMAGES * 1.0), usual)
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(fresh(images).square().sum(), images)
    assert bool(gradient.any())


def test_the_losses_fall_and_the_more_the_more_steps(defence: SelfSupervised) -> None:
    images = pictures(40)
    noisy = (images + 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    objective = defence.objective

    def lost(points: Tensor) -> Tensor:
        with torch.no_grad():  # by draws that no step was made with
            found = [objective.losses(defence.backbone, points, objective.fixed(step)) for step in range(50, 60)]
        return objective.standardised(torch.stack(found).mean(0)).mean(0)  # (T,)

    none, two, ten = (lost(defence.tuned(steps=steps).repaired(noisy).images) for steps in (0, 2, 10))
    assert bool((ten < none).all())
    assert float(ten.sum()) < float(two.sum()) < float(none.sum()) - 0.5


def test_the_best_step_loses_least_and_the_mean_is_of_the_later_half() -> None:
    defence = settled(steps=6, schedule="constant", step_size=8 / 255)  # so long that the last is not the best
    path = defence.repaired(IMAGES, keep_path=True).path
    assert len(path) == 7
    assert torch.equal(path[0], IMAGES)
    assert torch.equal(path[-1], defence.repaired(IMAGES).images)
    mean = defence.tuned(output="mean").repaired(IMAGES).images
    assert torch.allclose(mean, torch.stack(path[4:]).mean(0), atol=1e-6)
    objective = defence.objective
    with torch.no_grad():
        totals = [
            objective.standardised(objective.losses(defence.backbone, p, objective.fixed(min(k, 5)))).sum(1)
            for k, p in enumerate(path)
        ]
    best = torch.stack(totals).argmin(0)
    found = defence.tuned(output="best").repaired(IMAGES).images
    assert torch.allclose(found, torch.stack([path[int(k)][i] for i, k in enumerate(best)]), atol=1e-6)
    assert len(set(best.tolist())) > 1


def test_gate_and_stop_leave_alone_what_is_natural_enough(defence: SelfSupervised) -> None:
    defence = defence.tuned(steps=4, start="uniform")
    objective, images = defence.objective, pictures(40)
    images[20:] = (images[20:] + 0.04 * torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    with torch.no_grad():
        losses = objective.losses(defence.backbone, images, objective.fixed(0))
    natural = objective.below(losses, 0.8)
    assert 2 < int(natural.sum()) < 38
    gated = defence.tuned(gate=0.8).repaired(images)
    assert torch.equal(gated.images[natural], images[natural])
    assert torch.equal(gated.images[~natural], defence.repaired(images).images[~natural])
    assert torch.equal(gated.steps, torch.where(natural, 0, 4))
    stopped = defence.tuned(stop=0.8, start="zero").repaired(images)
    assert bool((stopped.steps[natural] == 0).all())
    path = defence.tuned(start="zero").repaired(images, keep_path=True).path
    for i, taken in enumerate(stopped.steps.tolist()):
        assert torch.allclose(stopped.images[i], path[taken][i], atol=1e-6)
    assert len(set(stopped.steps.tolist())) > 2
    alone = defence.tuned(stop=0.8, output="mean").repaired(images[5:6]).images
    assert torch.allclose(alone[0], defence.tuned(stop=0.8, output="mean").repaired(images).images[5], atol=1e-5)
    # Where nothing is known of clean images, nothing stops.
    assert untrained(THREE).tuned(gate=1.0, stop=1.0).repaired(images).steps.tolist() == [5] * 40


def test_the_length_of_steps_follows_its_schedule() -> None:
    assert Repair(budget=0.1, steps=5).sizes == pytest.approx([0.05, 0.04, 0.03, 0.02, 0.01])
    assert Repair(steps=3, step_size=0.2, schedule="constant").sizes == [0.2] * 3
    cosine = Repair(steps=4, step_size=1.0, schedule="cosine").sizes
    assert cosine == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-5)
    assert Repair(steps=0).sizes == []


def test_presets_are_what_they_say() -> None:
    paper = PRESETS["paper"].repair
    assert (paper.budget, paper.step_size, paper.steps, paper.start) == (16 / 255, 2 / 255, 40, "uniform")
    defence = untrained(PRESETS["paper"].tasks)
    assert defence.objective.weights("paper").tolist() == [1.0, 50.0, 10.0]
    assert defence.objective.tasks[0].views == 4  # type: ignore[attr-defined]


def test_mistakes_are_told_and_knobs_read_text() -> None:
    for wrong, said in (
        ({"budget": 16.0}, "pixels are in"),
        ({"steps": -1}, "0 or more"),
        ({"steps": 2.5}, "whole"),
        ({"step_size": 0.0}, "positive"),
        ({"gate": 1.5}, "a share"),
        ({"combine": "product"}, "one of sum"),
        ({"norm": "3"}, "one of inf"),
        ({"random": "perhaps"}, "true or false"),
    ):
        with pytest.raises(UserError, match=said):
            Repair(**wrong)  # type: ignore[arg-type]
    defence = untrained(THREE)
    turned = defence.tuned(budget="4/255", steps=2.0, random="true", step_size="none", output="mean")
    assert turned.how == Repair(budget=4 / 255, steps=2, random=True, output="mean")
    assert defence.how == Repair()
    assert turned.objective is defence.objective
    assert weights_fingerprint(turned) != weights_fingerprint(defence)
    assert set(defence.knobs) == {field.name for field in dataclasses.fields(Repair)}
    with pytest.raises(UserError, match="has no knob"):
        defence.tuned(epsilon=3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_heads_are_in_full_precision_whatever_the_network_is_in(dtype: torch.dtype) -> None:
    model = network()
    model.network.to(dtype)  # type: ignore[operator, union-attr]
    defence = SelfSupervised(model, ALL, (3, 16, 16))
    assert bool(defence(IMAGES).isfinite().all())
    assert float((defence.repaired(IMAGES).images - IMAGES).abs().max()) == pytest.approx(8 / 255, rel=1e-3)
    assert all(p.dtype in (torch.float32, torch.float64) for p in defence.objective.parameters())


def test_copies_read_the_features_of_their_own_network() -> None:
    defence = untrained(THREE)
    for twin in (copy.deepcopy(defence), pickle.loads(pickle.dumps(defence))):
        assert twin.backbone.model is twin.bare is not defence.bare
        assert torch.equal(twin(IMAGES), defence(IMAGES))
    search = Strong(8 / 255, precision="bfloat16", effort=0.02)  # on a copy, in half the bits
    found = search(defence, IMAGES[:2], torch.tensor([0, 1]))
    assert float((found - IMAGES[:2]).abs().max()) <= 8 / 255 + 1e-6


def test_images_of_another_size_are_refused() -> None:
    defence = untrained("rotation")
    assert defence.size == (16, 16)
    with pytest.raises(UserError, match="made for 3x16x16"):
        defence(torch.rand(2, 3, 20, 16))


def test_segmenters_are_repaired_by_dense_tasks() -> None:
    defence = untrained("equivariance+inpainting+masked", Task.SEGMENT).double()
    images = IMAGES.double()
    whole = defence(images)
    assert whole.shape == (6, 4, 16, 16)
    assert torch.allclose(defence(images[2:3])[0], whole[2], atol=1e-10)
    assert not torch.equal(whole, defence.model(images))


def test_it_stacks_with_other_defences() -> None:
    class Dimmed(Defence):
        randomised, exact_gradient, stateful = False, True, False

        def purify(self, images: Tensor) -> Tensor:
            return images * 0.9

    inner = untrained(THREE)
    outer = Dimmed(inner)
    assert torch.equal(outer(IMAGES), inner(IMAGES * 0.9))
    assert {"trajectory", "unrolled"} <= {surface.name for surface in outer.attack_surfaces()}
    assert outer.tuned(steps=1).model.how.steps == 1  # type: ignore[union-attr]
    above = untrained("rotation").around(Dimmed(inner.model))
    assert torch.equal(above.tuned(steps=0)(IMAGES), inner.model(IMAGES * 0.9))


def test_what_a_prediction_costs_is_what_its_looks_cost() -> None:
    """Forward and backward of every look at every step, and the answer; heads are small beside the network."""
    images = torch.rand(4, 3, 32, 32)
    from vallum.models import load_model

    bare = load_model("builtin:signs_resnet")
    fast = SelfSupervised(bare, PRESETS["fast"].tasks)
    cost = fast.cost(images).passes
    assert 1 + 5 * 2 * 3 < cost < 46
    assert fast.tuned(steps=1).cost(images).passes < 1 + (cost - 1) / 4
