"""What a defence declares, and what follows from it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vallum
from vallum.defences import Defence, draws_for
from vallum.defences.chance import drawing
from vallum.defences.stand_ins import Averaged, StraightThrough
from vallum.evaluation.summary import UNION
from vallum.images import Task
from vallum.models.model import Model, Wrapped
from vallum.threats import PGD, Square
from vallum.threats.losses import rewarded

THREAT = PGD(16 / 255, steps=5)


def linear(classes: int = 3, task: Task = Task.CLASSIFY) -> Model:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, classes)) if task is Task.CLASSIFY else nn.Conv2d(3, classes, 1)
    return Wrapped(net.double().float(), task=task, classes=classes).eval()


def pictures(n: int = 12) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Silent(Defence):
    """Declares nothing."""

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


class Rounding(Defence):
    randomised = stateful = False

    def purify(self, images: Tensor) -> Tensor:
        return (images * 4).round() / 4


class Noise(Defence):
    stateful, exact_gradient = False, True
    strength = 0.2

    def purify(self, images: Tensor) -> Tensor:
        return images + self.strength * draws_for(images, "noise").normal(*images.shape[1:], purpose="pixels")


class Counting(Defence):
    """Answers otherwise from the third call on."""

    randomised, exact_gradient, stateful = False, True, True

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.model(images) * (1 if self.calls < 3 else -1)


def names(defence: Defence) -> list[str]:
    return [surface.name for surface in defence.attack_surfaces()]


def test_what_declares_nothing_is_attacked_as_if_it_declared_everything() -> None:
    everything = {name for kind in (Silent, Rounding, Noise, Counting) for name in names(kind(linear()))}
    assert set(names(Silent(linear()))) == everything


def test_a_declaration_leaves_out_what_it_makes_needless() -> None:
    assert names(Rounding(linear())) == ["direct", "straight-through", "black-box", "transfer"]
    assert names(Noise(linear())) == ["direct", "expectation", "known draw", "black-box", "transfer"]
    assert names(Counting(linear())) == ["direct", "black-box", "transfer"]


def test_straight_through_has_the_answer_of_the_defence_and_the_gradient_of_the_model_there() -> None:
    model = linear()
    defence, images = Rounding(model), pictures().requires_grad_()
    through = StraightThrough(defence)
    assert torch.equal(through(images), defence(images))
    (gradient,) = torch.autograd.grad(through(images).square().sum(), images)
    there = defence.purify(images.detach()).requires_grad_()
    (expected,) = torch.autograd.grad(model(there).square().sum(), there)
    assert torch.equal(gradient, expected)
    (own,) = torch.autograd.grad(defence(images).square().sum(), images)
    assert not own.any()


def test_straight_through_passes_a_defence_over_that_does_more_than_change_images() -> None:
    class Negated(Defence):
        def forward(self, images: Tensor) -> Tensor:
            return -self.model(images.round())

    model, images = linear(), pictures().requires_grad_()
    through = StraightThrough(Negated(model))
    assert torch.equal(through(images), -model(images.round()))
    weights = torch.randn(12, 3)
    (gradient,) = torch.autograd.grad((through(images) * weights).sum(), images)
    (expected,) = torch.autograd.grad((model(images) * weights).sum(), images)
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("task", list(Task))
def test_an_average_is_the_mean_over_draws_of_its_own(task: Task) -> None:
    noisy, images = Noise(linear(task=task)), pictures(4)
    found = Averaged(noisy, 5)(images)
    draws = []
    for number in range(5):
        with drawing(numbers=number):
            draws.append(noisy(images))
    assert not torch.equal(draws[0], draws[1])
    expected = torch.stack(draws).softmax(2).mean(0).log() if task is Task.CLASSIFY else None
    if expected is None:
        expected = torch.stack(draws).log_softmax(2).exp().mean(0).log()
    constant = (found - expected).flatten(1)  # a constant for each image changes no probability
    assert torch.allclose(constant, constant[:, :1].expand_as(constant), atol=1e-5)
    mean = Averaged(noisy, 5, of="logits")(images)
    assert torch.allclose(mean, torch.stack(draws).mean(0), atol=1e-5)


def test_more_draws_bring_the_gradient_nearer_to_its_expectation() -> None:
    """The noise of a mean over n draws falls with the root of n; the expectation of a quadratic is known."""

    class Squares(Model):
        classes = ("0", "1")

        def forward(self, images: Tensor) -> Tensor:
            value = images.flatten(1).square().sum(1)
            return torch.stack([value, -value], 1)

    images = pictures(1).requires_grad_()
    errors = []
    for draws in (4, 64):
        (gradient,) = torch.autograd.grad(Averaged(Noise(Squares()), draws, of="logits")(images)[0, 0], images)
        errors.append(float((gradient - 2 * images.detach()).norm()))
    assert 2.5 < errors[0] / errors[1] < 6.5


def test_draws_depend_on_the_image_and_on_nothing_else() -> None:
    images = pictures()
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    noisy = Noise(linear())
    whole, alone, moved = noisy.purify(images), noisy.purify(images[7:8]), noisy.purify(images[shuffled])
    assert torch.equal(alone[0], whole[7])
    assert torch.equal(moved, whole[shuffled])
    with drawing(numbers=1):
        assert not torch.equal(noisy.purify(images), whole)
    with drawing(seed=1):
        assert not torch.equal(noisy.purify(images), whole)
    with drawing(known=True):
        first, other = noisy.purify(images) - images, noisy.purify(1 - images) - (1 - images)
        assert torch.allclose(first, other, atol=1e-6)
    assert torch.equal(noisy.purify(images), whole)


def test_a_stack_is_attacked_through_all_of_its_parts_at_once() -> None:
    model, images = linear(), pictures().requires_grad_()
    stack = Noise(Rounding(model))
    assert names(stack) == ["direct", "straight-through", "expectation", "known draw", "black-box", "transfer"]
    by_name = {surface.name: surface.through for surface in stack.attack_surfaces()}
    assert by_name["transfer"] is model
    logits = by_name["straight-through"](images)
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert bool((gradient.flatten(1).norm(dim=1) > 0).all())
    (stopped,) = torch.autograd.grad(by_name["expectation"](images)[:, 0].sum(), images)
    assert not stopped.any()
    assert copy.copy(stack).model is stack.model
    assert isinstance(stack.through("straight-through"), Noise)
    assert stack.model is not stack.through("straight-through").model  # the stack itself is left as it was


def test_a_randomised_defence_is_judged_on_draws_that_no_attack_has_seen(tmp_path: Path) -> None:
    noisy, images = Noise(linear()), pictures(40)
    labels = noisy.model(images).argmax(1)
    run = vallum.evaluate({"noisy": noisy}, (images, labels), THREAT, out=tmp_path, draws=5, progress=False)
    rows = run.query(
        "SELECT surface, accuracy, majority, worst, correct FROM rows WHERE model = 'noisy' AND threat <> 'clean'"
    ).fetchall()
    assert len(rows) == 5 * 40
    for surface, accuracy, majority, worst, correct in rows:
        if surface == "known draw":
            assert (majority, worst) == (None, None)
            assert accuracy in (0.0, 1.0)
        else:
            assert np.isclose(accuracy * 5, round(accuracy * 5))
            assert worst == (accuracy == 1)
            assert majority == float(correct)
            assert not (accuracy > 0.5 and majority == 0 and accuracy == 1)
    found = {row["metric"]: row["value"] for row in run.summary if (row["model"], row["surface"]) == ("noisy", UNION)}
    assert found["worst draw"] <= found["accuracy"]
    assert set(found) == {"accuracy", "majority of draws", "worst draw"}
    known = next(o for o in run.outcomes if o.surface == "known draw" and o.threat == THREAT.spec)
    union = next(o for o in run.outcomes if (o.model, o.threat, o.surface) == ("noisy", THREAT.spec, UNION))
    others = [
        o.accuracy
        for o in run.outcomes
        if (o.model, o.threat) == ("noisy", THREAT.spec) and o.surface not in (UNION, "known draw")
    ]
    assert union.accuracy.tolist() == np.stack(others).min(0).tolist()
    assert known.accuracy.mean() < next(
        o.accuracy.mean() for o in run.outcomes if (o.model, o.threat, o.surface) == ("noisy", THREAT.spec, "direct")
    )


def test_rows_of_a_randomised_defence_are_the_same_at_any_batch_size_but_for_rounding(tmp_path: Path) -> None:
    noisy, images = Noise(linear()), pictures(20)
    labels = noisy.model(images).argmax(1)
    found = [
        vallum.evaluate(
            {"noisy": noisy}, (images, labels), "gaussian:std=0.05", out=tmp_path / str(size), batch_size=size,
            progress=False,
        ).query("SELECT key, threat, accuracy FROM rows ORDER BY ALL").fetchall()
        for size in (20, 7)
    ]  # fmt: skip
    assert found[0] == found[1]


def test_a_state_does_not_go_from_one_batch_to_the_next(tmp_path: Path) -> None:
    model, images = linear(), pictures()
    labels = model(images).argmax(1)
    run = vallum.evaluate(
        {"counting": Counting(model)}, (images, labels), "gaussian:std=0.01", out=tmp_path, batch_size=2, progress=False
    )
    clean = next(o for o in run.outcomes if (o.model, o.threat) == ("counting", "clean"))
    assert clean.accuracy.mean() == 1.0  # six batches, and each is the first


def test_the_bare_model_is_measured_beside_its_defence_once(tmp_path: Path) -> None:
    model, images = linear(), pictures()
    labels = model(images).argmax(1)
    common = {"threats": "gaussian:std=0.05", "progress": False}
    defended = {"one": Rounding(model), "two": Noise(model)}
    run = vallum.evaluate(defended, (images, labels), **common, out=tmp_path / "added")
    assert [m.name for m in run.plan.models] == ["one, undefended", "one", "two"]
    assert {(p["first"], p["second"]) for p in run.comparisons} >= {("one, undefended", "one"), ("one", "two")}
    run = vallum.evaluate({"bare": model, **defended}, (images, labels), **common, out=tmp_path / "there")
    assert [m.name for m in run.plan.models] == ["bare", "one", "two"]
    run = vallum.evaluate(defended, (images, labels), **common, out=tmp_path / "off", undefended=False)
    assert [m.name for m in run.plan.models] == ["one", "two"]


def test_attacks_become_what_a_surface_has_use_for() -> None:
    surfaces = {surface.name: surface for surface in Silent(linear()).attack_surfaces()}
    black = surfaces["black-box"].here(THREAT)
    assert isinstance(black, Square)
    assert black.queries >= THREAT.passes
    assert black.eps == THREAT.eps
    assert surfaces["black-box"].here(black) is None
    assert surfaces["transfer"].here(THREAT) == PGD(16 / 255, steps=5, early_stop=False)
    assert surfaces["direct"].here(THREAT) is THREAT


def test_a_defence_costs_what_its_passes_cost() -> None:
    class Twice(Defence):
        def forward(self, images: Tensor) -> Tensor:
            return self.model(images) + self.model(images.flip(3))

    class Ascends(Defence):
        def forward(self, images: Tensor) -> Tensor:
            with torch.enable_grad():
                point = images.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(self.model(point).sum(), point)
            return self.model(images + gradient)

    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 3)).eval()
    model = Wrapped(net, classes=3).requires_grad_(False)
    assert Twice(model).cost(pictures()).passes == 2.0
    assert Ascends(model).cost(pictures()).passes == 3.0  # forwards twice, and once back


def test_the_cost_stands_in_the_environment_of_a_run(tmp_path: Path) -> None:
    model, images = linear(), pictures()
    run = vallum.evaluate(
        {"rounding": Rounding(model)}, (images, torch.arange(12) % 3), out=tmp_path, progress=False,
        threats="gaussian:std=0.1",
    )  # fmt: skip
    assert run.environment["costs"]["rounding"]["passes"] == 1.0


def test_a_surface_may_reward_an_attacker_beside_the_loss() -> None:
    """The model looks at the first row, the reward at the last: the attack goes up both, as far as it can."""

    class FirstRow(Model):
        classes = ("0", "1")

        def forward(self, images: Tensor) -> Tensor:
            value = images[:, :, 0].flatten(1).mean(1)
            return torch.stack([value, -value], 1)

    class Pleased(FirstRow):
        def forward(self, images: Tensor) -> Tensor:
            return rewarded(super().forward(images), images[:, :, -1].flatten(1).mean(1))

    images = 0.25 + pictures() / 2
    attack = PGD(0.1, steps=5, random_start=False, early_stop=False)
    found = attack(Pleased(), images, torch.zeros(12, dtype=torch.long)) - images
    assert torch.allclose(found[:, :, 0], torch.full_like(found[:, :, 0], -0.1), atol=1e-6)
    assert torch.allclose(found[:, :, -1], torch.full_like(found[:, :, -1], 0.1), atol=1e-6)
    assert not found[:, :, 1:-1].any()
