"""Two processes that share each batch learn what one process learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training_toys import Dots, Mistaken, Net, Shared

from vallum.defences import Plain, Recipe
from vallum.errors import UserError
from vallum.training import train

PLAN: dict[str, Any] = {"epochs": 2, "batch_size": 10, "lr": 0.05, "quiet": True, "validation": 0.25, "device": "cpu"}


def trained(out: Path, recipe: Recipe, **options: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    model = train(Net().double(), Dots(dtype=torch.float64), recipe, out=out, **PLAN, **options)
    assert not model.training
    state = torch.load(out / "checkpoint.pt", weights_only=True)["state"]
    return model.state_dict(), state


def test_two_processes_in_two_parts_each_equal_one(tmp_path: Path) -> None:
    """Down to a perturbation that images of all processes and parts share, and that is kept from step to step."""
    one, single = trained(tmp_path / "one", Shared())
    two, double = trained(tmp_path / "two", Shared(), devices=2, accumulate=2)
    for name, values in one.items():
        torch.testing.assert_close(two[name], values, rtol=1e-9, atol=1e-11)
    for name, values in single["companion"].items():
        torch.testing.assert_close(double["companion"][name], values, rtol=1e-9, atol=1e-11)
    for before, after in zip(single["history"], double["history"], strict=True):
        for name in before.keys() - {"images_per_second", "seconds"}:
            assert after[name] == pytest.approx(before[name], rel=1e-6)


def test_parts_that_do_not_divide_the_batch_change_nothing(tmp_path: Path) -> None:
    one, _ = trained(tmp_path / "one", Plain())
    three, _ = trained(tmp_path / "three", Plain(), accumulate=3)
    for name, values in one.items():
        torch.testing.assert_close(three[name], values, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_processes_of_ours_can_make_a_network_of_timms(tmp_path: Path) -> None:
    train("net:resnet", "builtin:signs?n=12", out=tmp_path, devices=2, **{**PLAN, "epochs": 1, "batch_size": 4})
    assert (tmp_path / "vallum.json").exists()


@pytest.mark.slow
def test_a_mistake_in_a_process_of_ours_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^a mistake; mend it$"):
        train(Net(), Dots(), Mistaken(), out=tmp_path, devices=2, **PLAN)


def test_too_many_processes_for_the_batch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 images per step cannot be shared by 1 processes in 3 parts each"):
        train(Net(), Dots(), out=tmp_path, **{**PLAN, "batch_size": 2}, accumulate=3)
    with pytest.raises(UserError, match="devices=0"):
        train(Net(), Dots(), out=tmp_path, devices=0, **PLAN)
