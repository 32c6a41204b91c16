"""Every recipe keeps the contract; each computes what its definition says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.data import load_data
from vallum.defences import RECIPES, Adversarial, Context, Plain, recipe
from vallum.defences.attack_mode import attack_mode
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task
from vallum.models import Wrapped, load_model
from vallum.threats import PGD
from vallum.threats.universal import Fitted


def batch(task: Task = Task.CLASSIFY, n: int = 6) -> Batch:
    draws = Draws(0, range(n))
    shape = (6, 6) if task is Task.SEGMENT else ()
    labels = draws.integers(4, *shape, purpose="labels")
    if task is Task.SEGMENT:
        labels[:, :2] = 255
        labels[0] = 255  # nothing in it is labelled
    return Batch(draws.uniform(3, 6, 6, purpose="images"), labels, torch.arange(n), [str(i) for i in range(n)])


def network(task: Task = Task.CLASSIFY) -> Wrapped:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU(), nn.Dropout(0.1), nn.Conv2d(8, 4, 1)]
    head = [] if task is Task.SEGMENT else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Wrapped(nn.Sequential(*body, *head), task=task, classes=4).train()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: values.clone() for name, values in model.state_dict().items()}


# Those that need more than any network and tiny images.
EXAMPLES = {"depth_multitask": "depth_multitask:video=builtin:streets?n=4&size=16x48"}
NETWORKS = {"depth_multitask": "net:segmenter?classes=4"}


@pytest.mark.parametrize(("name", "task"), list(itertools.product(RECIPES, Task)))
def test_every_recipe_keeps_the_contract(name: str, task: Task) -> None:
    made = recipe(EXAMPLES.get(name, name))
    assert recipe(made.spec) == made
    assert recipe(made) is made
    if task not in made.trains:
        return
    images, first = batch(task), load_model(NETWORKS[name]) if name in NETWORKS else network(task)
    model = made.around(first, images.images).train()
    companion = made.companion(model, images.images)
    context = Context(seed=1, steps=10, total=len(images), companion=companion)
    (ready,) = made.prepare(model, [images], context)
    before = images.images.clone()
    losses = made.step(model, ready, context)
    losses["loss"].backward()
    assert all(value.ndim == 0 and bool(value.isfinite()) for value in losses.values())
    learning = list(made.learns(model).parameters())
    unused = sum(p.grad is None for p in learning)  # what stands in the place of hidden patches, where none are hidden
    assert unused <= ("pretraining" in name)
    assert all(p.requires_grad and (p.grad is None or bool(p.grad.isfinite().all())) for p in learning)
    assert all(p.grad is None for p in {*model.parameters()} - {*learning})
    assert all(module.training for module in model.modules())
    assert torch.equal(images.images, before)
    probe = made.probe()
    if isinstance(probe, Fitted):
        probe = probe.fit(model.eval(), load_data((images.images, images.labels), task=task, classes=4))
    assert probe is None or probe(model.eval(), images.images, images.labels, images.keys).shape == before.shape


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_plain_is_cross_entropy(task: Task, smoothing: float) -> None:
    model, images = network(task).eval(), batch(task)
    losses = Plain(label_smoothing=smoothing).step(model, images, Context())
    logits = model(images.images).log_softmax(1)
    values = []
    for row, label in zip(logits, images.labels, strict=True):
        pairs = [(row.view(4, -1)[:, i], int(k)) for i, k in enumerate(label.flatten()) if k != 255]
        spread = [(1 - smoothing) * -scores[k] - smoothing * scores.mean() for scores, k in pairs]
        values.append(sum(spread) / max(len(spread), 1))
    assert float(losses["loss"].detach()) == pytest.approx(float(sum(values).detach()) / len(values), rel=1e-5)


def test_class_255_of_a_classifier_is_learnt() -> None:
    model = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(108, 300)), classes=300)
    images = batch()
    images.labels = torch.full((6,), 255)
    expected = F.cross_entropy(model(images.images), images.labels, ignore_index=-1)
    assert float(Plain().step(model, images, Context())["loss"].detach()) == pytest.approx(float(expected.detach()))


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_adversarial_on_a_linear_model_meets_the_closed_form(norm: Any) -> None:
    """Between two classes a linear model is hurt most by eps times the dual norm of the weights' difference."""
    torch.manual_seed(0)
    linear = nn.Linear(108, 2).double()
    model = Wrapped(nn.Sequential(nn.Flatten(), linear), classes=2)
    images = batch()
    images.images = images.images.double() * 0.5 + 0.25  # far enough from the box
    images.labels = images.labels % 2
    losses = Adversarial(eps=0.1, norm=norm, steps=30, step_size=0.1).step(model, images, Context())
    slope = linear.weight[0] - linear.weight[1]
    reach = 0.1 * (slope.abs().sum() if norm == "inf" else slope.square().sum().sqrt())
    margins = model(images.images)
    margin = torch.where(images.labels == 0, 1, -1) * (margins[:, 0] - margins[:, 1]) - reach
    assert float(losses["loss"].detach()) == pytest.approx(float(F.softplus(-margin).mean().detach()), rel=1e-6)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_adversarial_is_cross_entropy_at_the_images_of_pgd(mode: Any) -> None:
    made = Adversarial(eps=4 / 255, steps=3, step_size=2 / 255, batch_norm=mode, label_smoothing=0.1)
    ours, theirs, images, context = network(), network(), batch(), Context(seed=3, epoch=2)
    torch.manual_seed(1)
    losses = made.step(ours, images, context)
    attack = PGD(4 / 255, steps=3, step_size=2 / 255, early_stop=False, seed=context.seed_of_epoch("adversarial"))
    theirs.eval()
    if mode == "train":  # what batch norm keeps is put back by hand
        kept = state(theirs)
        theirs.network[1].train()
    hard = attack(theirs, images.images, images.labels, images.keys)
    if mode == "train":
        theirs.load_state_dict(kept)
    torch.manual_seed(1)
    logits = theirs.train()(hard)
    expected = F.cross_entropy(logits, images.labels, label_smoothing=0.1)
    assert float(losses["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert float(losses["train_robust_accuracy"]) == pytest.approx(
        float((logits.argmax(1) == images.labels).float().mean())
    )
    # The statistics saw the training pass and nothing of the attack.
    for name, values in state(ours).items():
        torch.testing.assert_close(values, theirs.state_dict()[name])


@pytest.mark.parametrize("name", ["plain", "adversarial"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rare_classes_weigh_more_in_any_training_of_segmenters(name: str, smoothing: float) -> None:
    """As depth_multitask weighs them without clips, and as torch weighs them, image by image."""
    images = batch(Task.SEGMENT)
    images.labels[1] = torch.where(images.labels[1] == 3, 0, images.labels[1])
    spec = {"plain": "plain:", "adversarial": "adversarial:eps=0,"}[name]
    made, model = recipe(f"{spec}class_weights=true,label_smoothing={smoothing}"), network(Task.SEGMENT).eval()
    companion = made.companion(model, images.images)
    found = made.step(model, images, Context(companion=companion))["loss"]
    known = images.labels[images.labels != 255]
    weights = 1 / (1.1 + torch.bincount(known, minlength=4) / len(known)).log()
    logits = model(images.images)
    if not smoothing:
        expected = [
            F.cross_entropy(row[None], mask[None], weights, ignore_index=255)
            for row, mask in zip(logits[1:], images.labels[1:], strict=True)  # in the first nothing is labelled
        ]
        assert float(found.detach()) == pytest.approx(float(torch.stack(expected).sum().detach()) / 6, rel=1e-5)
        depth = recipe("depth_multitask:clips=0")
        theirs = depth.step(model, images, Context(companion=depth.companion(model, images.images)))["loss"]
        assert torch.equal(found, theirs)
    smooth = F.cross_entropy(
        logits, images.labels.where(images.labels < 4, 0), reduction="none", label_smoothing=smoothing
    )
    worth = weights[images.labels.where(images.labels < 4, 0)] * (images.labels < 4)
    means = (smooth * worth).sum((1, 2)) / worth.sum((1, 2)).clamp_min(1e-6)
    assert float(found.detach()) == pytest.approx(float(means.mean().detach()), rel=1e-5)
    assert float(made.step(model, images, Context(companion=companion))["loss"].detach()) == pytest.approx(
        float(found.detach()), rel=1e-5
    )  # seen twice, the shares are the same
    plain = recipe(f"{spec}label_smoothing={smoothing}")
    assert not list(plain.companion(model, images.images).buffers())
    assert plain.step(model, images, Context())["loss"] != found
    with pytest.raises(UserError, match="task is classify"):
        made.companion(network(), images.images)


def test_each_epoch_starts_elsewhere_and_each_image_alone() -> None:
    seeds = {Context(seed=seed, epoch=epoch).seed_of_epoch(who) for seed in (0, 1) for epoch in (0, 1) for who in "ab"}
    assert len(seeds) == 8
    draws = [Context(seed=0, epoch=epoch).draws([4, 2], "x").uniform(3, purpose="y") for epoch in (0, 1)]
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(Context().draws([2], "x").uniform(3, purpose="y")[0], draws[0][1])


def test_radius_grows_along_the_warmup(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[float, float | None]] = []

    def attack(self: PGD, model: Any, images: Tensor, labels: Tensor, keys: Any = None) -> Tensor:
        used.append((float(self.eps), self.step_size))
        return images

    monkeypatch.setattr(PGD, "__call__", attack)
    made = Adversarial(eps=0.1, step_size=0.04, warmup=0.5)
    for step in (0, 1, 2, 3, 7):
        made.step(network(), batch(), Context(step=step, steps=8))
    eps, sizes = zip(*used, strict=True)
    assert eps == pytest.approx((0.025, 0.05, 0.075, 0.1, 0.1))
    assert sizes == pytest.approx((0.01, 0.02, 0.03, 0.04, 0.04))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("adversarial:eps=8", "write eps=8/255"),
        ("adversarial:steps=0", "at least 1"),
        ("adversarial:norm=3", "one of inf, 2, 1"),
        ("adversarial:batch_norm=on", "one of eval, train"),
        ("adversarial:warmup=1", "warmup=1: a share below 1"),
        ("plain:label_smoothing=1.5", "label_smoothing=1.5: a share below 1"),
        ("adverserial", "did you mean adversarial"),
    ],
)
def test_specs_that_make_no_sense(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        recipe(spec)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_attack_mode_leaves_no_trace(mode: Any) -> None:
    model = network()
    model.network[4].eval()  # one layer that somebody keeps in another mode
    modes, before, images = [m.training for m in model.modules()], state(model), batch().images

    def fail() -> None:
        with attack_mode(model, mode):
            first, second = model(images), model(images)
            assert torch.equal(first, second)  # no dropout
            assert torch.allclose(model(images[:1]), first[:1]) == (mode == "eval")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fail()
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(values, before[name]) for name, values in state(model).items())
    assert model.network[1].track_running_stats
