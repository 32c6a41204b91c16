"""Learning rate, optimiser, average, validation and settings, each against its definition."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import nn
from torchmetrics.functional.classification import multiclass_jaccard_index
from training_toys import Net

from vallum.errors import UserError
from vallum.images import Task
from vallum.training import Settings
from vallum.training.average import Average
from vallum.training.optimize import make_optimizer
from vallum.training.schedule import share
from vallum.training.validate import confusion, scores

CPU = torch.device("cpu")


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.3), (17, 0.25), (1000, 0.1), (40, 0.5)])
def test_one_cycle_is_torchs(steps: int, warmup: float) -> None:
    settings = Settings(schedule="one_cycle", warmup=warmup, lr=0.2)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.2, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    for step in range(steps):
        assert share(settings, step, steps) * 0.2 == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the optimiser not having stepped
            if step < steps - 1:
                schedule.step()


@examples(max_examples=30)
@given(st.integers(1, 500), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.sampled_from(["cosine", "constant", "one_cycle"]))
def test_every_schedule_rises_then_does_not_rise(steps: int, warmup: float, schedule: Any) -> None:
    settings = Settings(schedule=schedule, warmup=warmup)
    values = [share(settings, step, steps) for step in range(steps)]
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    assert 0 < min(values) <= max(values) <= 1


def test_cosine_without_warmup_is_its_formula() -> None:
    settings = Settings(schedule="cosine", warmup=0)
    for step in range(10):
        assert share(settings, step, 10) == pytest.approx((1 + math.cos(math.pi * step / 10)) / 2)


def test_only_matrices_and_filters_decay() -> None:
    net = Net()
    decaying, others = make_optimizer([net], Settings(weight_decay=0.1), CPU).param_groups
    assert {id(p) for p in decaying["params"]} == {id(net.filters.weight), id(net.head.weight)}
    assert decaying["weight_decay"] == 0.1
    assert others["weight_decay"] == 0
    assert len(others["params"]) == 4


def test_frozen_weights_stay_out_and_nothing_to_train_is_told() -> None:
    net = Net()
    net.filters.requires_grad_(False)
    groups = make_optimizer([net], Settings(optimizer="adamw"), CPU).param_groups
    assert sum(len(group["params"]) for group in groups) == 4
    with pytest.raises(UserError, match="nothing to train"):
        make_optimizer([nn.Flatten()], Settings(), CPU)


def test_average_is_its_recurrence() -> None:
    net = Net(norm="batch").double()
    average = Average(net.state_dict(), 0.6)
    expected = {name: values.clone() for name, values in net.state_dict().items()}
    for step in range(1, 9):
        with torch.no_grad():
            for p in (*net.parameters(), net.norm.running_mean):
                p.add_(torch.randn_like(p))
            net.norm.num_batches_tracked.add_(1)
        average.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, values in net.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * values if values.is_floating_point() else values
    own = {name: values.clone() for name, values in net.state_dict().items()}
    with average.worn_by(net):
        for name, values in net.state_dict().items():
            torch.testing.assert_close(values, expected[name])
    assert all(torch.equal(values, own[name]) for name, values in net.state_dict().items())


@examples(max_examples=30)
@given(st.integers(0, 1000))
def test_scores_are_torchmetrics(seed: int) -> None:
    torch.manual_seed(seed)
    predicted, labels = torch.randint(5, (3, 6, 6)), torch.randint(5, (3, 6, 6))
    labels[torch.rand(3, 6, 6) < 0.2] = 255
    got = scores(confusion(predicted, labels, 5), Task.SEGMENT)
    known = labels != 255
    assert got["accuracy"] == pytest.approx(float((predicted == labels)[known].float().mean()))
    expected = multiclass_jaccard_index(predicted, labels, 5, average="macro", ignore_index=255)
    assert got["miou"] == pytest.approx(float(expected), rel=1e-5)


def test_class_255_of_a_classifier_counts() -> None:
    labels = torch.tensor([255, 255, 3])
    assert scores(confusion(torch.tensor([255, 0, 3]), labels, 300), Task.CLASSIFY)["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "no setting 'epoch'; did you mean epochs"),
        ({"epochs": 0}, "epochs=0: at least 1"),
        ({"lr": -1.0}, "lr=-1.0: it must be positive"),
        ({"optimizer": "adam"}, "optimizer='adam': one of sgd, adamw"),
        ({"precision": "16"}, "precision='16': one of 32-true, bf16-mixed"),
        ({"average": 1.0}, "average=1.0: a share below 1"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Settings.of(**options)
