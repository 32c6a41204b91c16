"""Shared training against its definition: closed forms, per-image PGD, and other methods written out beside it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vallum.defences import Adversarial, Context, SharedTraining, recipe
from vallum.defences.shared_training.recipe import Prepared
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task
from vallum.models import Model, Wrapped
from vallum.threats.norms import norm_named

EPS = 8 / 255


def some(n: int = 12, task: Task = Task.CLASSIFY, classes: int = 4, first: int = 0) -> Batch:
    keys = list(range(first, first + n))
    draws = Draws(5, keys)
    labels = draws.integers(classes, *((6, 6) if task is Task.SEGMENT else ()), purpose="labels")
    images = draws.uniform(3, 6, 6, purpose="images").double()
    return Batch(images, labels, torch.tensor(keys), [str(key) for key in keys])


def parts_of(batch: Batch, *sizes: int) -> list[Batch]:
    assert sum(sizes) == len(batch)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    cut = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return [Batch(batch.images[c], batch.labels[c], batch.keys[c], batch.names[c]) for c in cut]


def curved(task: Task = Task.CLASSIFY) -> Wrapped:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 4, 1)]
    head = [] if task is Task.SEGMENT else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = Wrapped(nn.Sequential(*body, *head), task=task, classes=4).double().train()
    with torch.no_grad():
        model.network[3].weight.mul_(8)  # so that there is something to lose
    return model


def linear(scale: float = 1.0, classes: int = 4) -> Wrapped:
    torch.manual_seed(1)
    layer = nn.Linear(108, classes).double()
    with torch.no_grad():
        layer.weight.mul_(scale)
    return Wrapped(nn.Sequential(nn.Flatten(), layer), classes=classes)


def prepared(
    made: SharedTraining, model: Model, batches: list[Batch], companion: nn.Module | None = None, **given: Any
) -> list[Prepared]:
    companion = made.companion(model, batches[0].images) if companion is None else companion
    total = sum(map(len, batches))
    return list(made.prepare(model, batches, Context(seed=3, steps=10, total=total, companion=companion, **given)))


def moved(part: Prepared) -> Tensor:
    return (part.batch.images + part.shared[part.which]).clamp(0, 1)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_alone_it_is_adversarial_training_bit_for_bit(norm: Any) -> None:
    """On a linear model, where the last point of PGD is its best; random starts, steps and draws are the same."""
    settings: dict[str, Any] = {"eps": 0.1, "norm": norm, "steps": 3, "step_size": 0.04}
    shared = SharedTraining(sharedness=1, robust_weight=1.0, floor=None, **settings)
    model, batch = linear(classes=2), some(classes=2)
    (ready,) = prepared(shared, model, [batch])
    context = Context(seed=3, steps=10, total=len(batch))
    theirs = Adversarial(**settings)._attack(1.0, context.seed_of_epoch("adversarial"))
    assert torch.equal(moved(ready), theirs(model, batch.images, batch.labels, batch.keys))
    ours = shared.step(model, ready, context)["loss"]
    assert torch.equal(ours, Adversarial(**settings).step(model, batch, context)["loss"])


def test_alone_each_image_climbs_as_pgd_written_out() -> None:
    made, model, batch = SharedTraining(eps=EPS, sharedness=1, steps=3), curved(), some()
    (ready,) = prepared(made, model, [batch])
    model.eval()
    context = Context(seed=3, total=len(batch))
    start = Draws(context.seed_of_epoch("adversarial"), batch.keys, "PGD/restart 0").uniform(3, 6, 6, purpose="start")
    delta = ((start.double() * 2 - 1) * EPS).maximum(-batch.images).minimum(1 - batch.images)
    for _ in range(3):
        point = (batch.images + delta).requires_grad_()
        F.cross_entropy(model(point), batch.labels, reduction="none").clamp_max(-math.log(0.2)).sum().backward()
        delta = (delta + EPS / 2 * point.grad.sign()).clamp(-EPS, EPS).maximum(-batch.images).minimum(1 - batch.images)
    torch.testing.assert_close(moved(ready), batch.images + delta, rtol=0, atol=1e-15)


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_a_heap_shares_one_perturbation_inside_the_ball(task: Task, norm: Any) -> None:
    made = SharedTraining(eps=0.3, norm=norm, sharedness=5, steps=2)
    (ready,) = prepared(made, curved(task), [some(12, task)])
    assert ready.which.tolist() == [0] * 5 + [1] * 5 + [2] * 2
    flat = ready.shared.flatten(1)
    length = {"inf": flat.abs().amax(1), "2": flat.square().sum(1).sqrt(), "1": flat.abs().sum(1)}[norm]
    assert bool((length <= 0.3 * (1 + 1e-12)).all())
    assert bool((length > 0.2).all())


@pytest.mark.parametrize("cut", [(12,), (7, 5), (1, 4, 7)])
@pytest.mark.parametrize("spec", ["sharedness=8", "sharedness=batch", "sharedness=class", "sharedness=1", "bank=3"])
def test_what_is_found_does_not_hang_on_how_the_step_is_cut(spec: str, cut: tuple[int, ...]) -> None:
    made = recipe(f"shared_training:eps=8/255,{spec}")
    assert isinstance(made, SharedTraining)
    batch = some()
    (whole,) = prepared(made, curved(), [batch])
    parts = prepared(made, curved(), parts_of(batch, *cut))
    assert torch.equal(torch.cat([moved(part) for part in parts]), moved(whole))


@pytest.mark.parametrize("spec", ["sharedness=8", "sharedness=batch", "sharedness=class", "bank=3,fresh=0.5"])
def test_processes_find_what_one_finds(spec: str) -> None:
    """Two processes in lockstep, as threads: each has half of the images, and sees the other's sums alone."""
    import threading

    made = recipe(f"shared_training:eps=8/255,{spec}")
    assert isinstance(made, SharedTraining)
    (whole,) = prepared(made, curved(), [some()])
    barrier, said, found = threading.Barrier(2), [torch.empty(0)] * 2, [torch.empty(0)] * 2

    models = curved(), curved()  # here, for they are drawn from the one random state that threads have in common

    def work(rank: int, batch: Batch) -> None:
        def add(values: Tensor) -> Tensor:
            said[rank] = values
            barrier.wait()
            total = said[0] + said[1]
            barrier.wait()
            return total

        model = models[rank]
        context = Context(seed=3, steps=10, offset=6 * rank, total=12, sum_over_processes=add)
        context.companion = made.companion(model, batch.images)
        (part,) = made.prepare(model, [batch], context)
        found[rank] = part.shared

    threads = [threading.Thread(target=work, args=(r, b)) for r, b in enumerate(parts_of(some(), 6, 6))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], whole.shared)


def test_almost_flat_losses_meet_the_closed_form_and_fall_with_sharedness() -> None:
    """Where the loss is linear, a heap's worst is eps times the length of its mean gradient in the dual norm."""
    model, batch = linear(scale=1e-4), some(16)
    batch.images = batch.images * 0.5 + 0.25
    point = batch.images.clone().requires_grad_()
    clean = F.cross_entropy(model(point), batch.labels, reduction="none")
    (slope,) = torch.autograd.grad(clean.sum(), point)
    gains = []
    for sharedness in (1, 2, 4, 8, 16):
        made = SharedTraining(eps=EPS, sharedness=sharedness, floor=None)
        (ready,) = prepared(made, model, [batch])
        reached = F.cross_entropy(model(moved(ready)), batch.labels, reduction="none") - clean
        heaps = slope.flatten(1).view(-1, sharedness, 108).mean(1)
        expected = EPS * heaps.abs().sum(1).mean()
        gains.append(float(reached.mean().detach()))
        assert gains[-1] == pytest.approx(float(expected), rel=1e-3)
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 2 * gains[-1]


@given(seed=st.integers(0, 2**16), sharedness=st.sampled_from([2, 4, 8]))
def test_ascent_goes_up(seed: int, sharedness: int) -> None:
    model, batch = curved(), some()
    climbed = SharedTraining(eps=EPS, sharedness=sharedness, steps=4, step_size=EPS / 8, floor=None)
    values = []
    for steps in (1, 6):
        made = SharedTraining(eps=EPS, sharedness=sharedness, steps=steps, step_size=EPS / 8, floor=None)
        total = Context(seed=seed, total=len(batch), companion=climbed.companion(model, batch.images))
        (ready,) = made.prepare(model, [batch], total)
        values.append(float(F.cross_entropy(model.eval()(moved(ready)), batch.labels).detach()))
        model.train()
    assert values[1] > values[0]


def test_who_has_lost_enough_has_no_say() -> None:
    """Clipped per image and before the sum: a hopeless image beside others leaves their perturbation as it is."""
    model, batch = linear(), some(8)
    with torch.no_grad():
        logits = model(batch.images)
        batch.labels = logits.argmax(1)
        batch.labels[3] = logits[3].argmin()
    hopeless = float(logits.softmax(1)[3, batch.labels[3]])
    made = SharedTraining(eps=1e-4, sharedness=8, floor=hopeless * 1.1)
    (with_it,) = prepared(made, model, [batch])
    context = Context(seed=3, steps=10, total=8, companion=made.companion(model, batch.images))
    rest = [i for i in range(8) if i != 3]
    others = Batch(batch.images[rest], batch.labels[rest], batch.keys[rest], [batch.names[i] for i in rest])
    (without,) = made.prepare(model, [others], context)
    assert torch.equal(with_it.shared, without.shared)
    (unclipped,) = prepared(SharedTraining(eps=1e-4, sharedness=8, floor=None), model, [batch])
    assert not torch.equal(unclipped.shared, without.shared)


def test_the_adversary_leaves_no_trace() -> None:
    model, batch = curved(), some()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    for mode in ("eval", "train", "frozen"):
        prepared(SharedTraining(sharedness=4, batch_norm=mode), model, [batch])
        assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        assert all(module.training for module in model.modules())


def test_batch_norm_takes_a_shared_shift_away_unless_it_is_frozen() -> None:
    """Of one colour and shared by all, a perturbation is part of the batch's mean: training would never meet it."""
    model = Wrapped(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model = model.double().train()
    batch = some()
    batch.images = batch.images * 0.5 + 0.25
    shared, which = torch.full((1, 3, 6, 6), 0.1).double(), torch.zeros(12, dtype=torch.long)
    ready = Prepared(batch, shared, which, torch.ones(12, dtype=torch.bool), torch.zeros(()))
    none = Prepared(batch, shared * 0, which, torch.ones(12, dtype=torch.bool), torch.zeros(()))
    for mode, cancels in (("eval", True), ("frozen", False)):
        made = SharedTraining(robust_weight=1.0, batch_norm=mode)
        one, other = (made.step(model, part, Context())["loss"] for part in (ready, none))
        assert torch.allclose(one, other, rtol=1e-9) == cancels
    assert all(module.training for module in model.modules())


def sgd(model: nn.Module, loss: Tensor) -> None:
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.05 * p.grad
            p.grad = None


def train_some(made: SharedTraining, model: Model, batches: list[Batch]) -> nn.Module:
    companion = made.companion(model, batches[0].images)
    for step, batch in enumerate(batches):
        context = Context(seed=3, step=step, steps=len(batches), total=len(batch), companion=companion)
        (ready,) = made.prepare(model, [batch], context)
        sgd(model, made.step(model, ready, context)["loss"])
    return companion


def shafahi(model: Model, batches: list[Batch], delta: Tensor, *, at_once: bool) -> Tensor:
    """Universal adversarial training as its authors print it: one perturbation for all, kept from step to step."""
    for batch in batches:
        if not at_once:
            leaf = delta.clone().requires_grad_()
            loss = F.cross_entropy(model((batch.images + leaf).clamp(0, 1)), batch.labels)
            (gradient,) = torch.autograd.grad(loss, leaf)
            delta = (delta + EPS * gradient.sign()).clamp(-EPS, EPS)
        leaf = delta.clone().requires_grad_()
        loss = F.cross_entropy(model((batch.images + leaf).clamp(0, 1)), batch.labels)
        sgd(model, loss)
        if at_once:
            delta = (delta + EPS * leaf.grad.sign()).clamp(-EPS, EPS)
    return delta


@pytest.mark.parametrize("at_once", [True, False])
def test_universal_adversarial_training_is_a_special_case(at_once: bool) -> None:
    settings: dict[str, Any] = {"eps": EPS, "sharedness": "batch", "bank": 1, "floor": None, "robust_weight": 1.0}
    made = SharedTraining(steps=0 if at_once else 1, step_size=EPS, **settings)
    batches = [some(first=12 * i) for i in range(4)]
    ours, theirs = linear(), linear()
    start = made.companion(ours, batches[0].images).entries
    bank = train_some(made, ours, batches)
    delta = shafahi(theirs, batches, start.clone(), at_once=at_once)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    if at_once:
        bank.climb(norm_named("inf"), EPS, EPS)  # what the last training pass has shown is done when the next begins
    torch.testing.assert_close(bank.entries, delta, rtol=0, atol=1e-15)


def test_by_class_each_label_has_its_own() -> None:
    made = SharedTraining(sharedness="class", bank=4, steps=1)
    batch = some()
    companion = made.companion(curved(), batch.images)
    before = companion.entries.clone()
    (ready,) = prepared(made, curved(), [batch], companion)
    assert torch.equal(ready.which, batch.labels)
    seen = torch.bincount(batch.labels, minlength=4) > 0
    changed = (companion.entries != before).flatten(1).any(1)
    assert bool(changed[seen].all())
    with pytest.raises(UserError, match="sharedness=class is for classifiers"):
        prepared(made, curved(Task.SEGMENT), [some(task=Task.SEGMENT)])


def test_mixed_draws_a_size_for_each_step() -> None:
    made = SharedTraining(sharedness="mixed", steps=1)
    sizes = set()
    for step in range(30):
        (ready,) = prepared(made, linear(), [some()], step=step)
        sizes.add(int(torch.bincount(ready.which).max()))
    assert sizes == {1, 8, 12}  # 64 is more than there are


def test_a_bank_moves_at_its_rate_and_warms_the_next_step() -> None:
    batch, model = some(), curved()
    slow = SharedTraining(sharedness="batch", bank=1, bank_rate=0.25)
    companion = slow.companion(model, batch.images)
    before = companion.entries.clone()
    (ready,) = prepared(slow, model, [batch], companion)
    torch.testing.assert_close(companion.entries, before + 0.25 * (ready.shared - before))
    still = SharedTraining(sharedness="batch", bank=1, steps=1, step_size=1e-9)
    (warm,) = prepared(still, model, [batch], companion)
    torch.testing.assert_close(warm.shared, before + 0.25 * (ready.shared - before), atol=1e-8, rtol=0)


@pytest.mark.parametrize("task", list(Task))
def test_the_loss_weighs_clean_and_perturbed(task: Task) -> None:
    made, model, batch = (
        SharedTraining(sharedness=4, robust_weight=0.3, batch_norm="frozen"),
        curved(task),
        some(task=task),
    )
    (ready,) = prepared(made, model, [batch])
    losses = made.step(model, ready, Context())
    model.eval()
    hard, clean = (F.cross_entropy(model(images), batch.labels) for images in (moved(ready), batch.images))
    assert float(losses["loss"].detach()) == pytest.approx(float((0.3 * hard + 0.7 * clean).detach()), rel=1e-9)
    assert float(losses["train_accuracy"]) == pytest.approx(
        float((model(batch.images).argmax(1) == batch.labels).double().mean()), abs=1e-6
    )


def test_either_perturbs_a_share_of_the_images_and_no_other() -> None:
    made = SharedTraining(sharedness=16, robust_weight=0.5, both=False, batch_norm="frozen")
    model, batch = curved(), some(200)
    (ready,) = prepared(made, model, [batch])
    assert 70 < int(ready.chosen.sum()) < 130
    assert int(ready.which.max()) + 1 == math.ceil(200 / 32)  # of 32 in a row about 16 are perturbed
    losses = made.step(model, ready, Context())
    model.eval()
    images = torch.where(ready.chosen.view(-1, 1, 1, 1), moved(ready), batch.images)
    hits = (model(images).argmax(1) == batch.labels).double()
    expected = F.cross_entropy(model(images), batch.labels)
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    total = losses["train_robust_accuracy"] * 0.5 + losses["train_accuracy"] * 0.5
    assert float(total) == pytest.approx(float(hits.mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("shared_training:eps=8", "write eps=8/255"),
        ("shared_training:sharedness=0", "at least 1"),
        ("shared_training:sharedness=few", "one of batch, class, mixed"),
        ("shared_training:steps=0", "bank=1 or more"),
        ("shared_training:sharedness=1,bank=2", "shared by many"),
        ("shared_training:robust_weight=1.5", "a share from 0 to 1"),
        ("shared_training:floor=0", "a probability between"),
        ("shared_training:warmup=1", "a share below 1"),
        ("shared_trainin", "did you mean shared_training"),
    ],
)
def test_specs_that_make_no_sense(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipe(spec)


def test_every_relative_has_a_spec() -> None:
    for spec in (
        "shared_training:sharedness=mixed",
        "shared_training:sharedness=class,bank=43",
        "shared_training_fast:steps=0,sharedness=batch,bank=1",
    ):
        assert recipe(spec).spec.partition(":")[0] == spec.partition(":")[0]
        assert recipe(recipe(spec).spec) == recipe(spec)
