"""A plan is a grid of cells whose names say what they depend on."""

from dataclasses import replace

import pytest

from vallum.errors import UserError
from vallum.evaluation.plan import Plan, PlannedModel, PlannedThreat

PLAN = Plan(
    models=(
        PlannedModel("a", "spec:a", "f00", ("direct",), ()),
        PlannedModel("b", "", "f01", ("direct", "transfer"), ("transfer",)),
    ),
    threats=(PlannedThreat("clean", "clean", False, 1.0), PlannedThreat("pgd:eps=4/255", "attack", True, 121.0)),
    data="builtin:signs",
    data_fingerprint="d0",
    task="classify",
    classes=("x", "y"),
    images=tuple(range(0, 50, 2)),
    batch_size=10,
    threads=1,
    device="cpu",
    seed=0,
)


def test_json_gives_the_plan_back() -> None:
    assert Plan.from_json(PLAN.to_json()) == PLAN


def test_every_image_is_in_one_cell_of_each_model_threat_and_surface() -> None:
    seen: dict[tuple[int, int, str], list[int]] = {}
    for cell in PLAN.cells():
        seen.setdefault((cell.model, cell.threat, cell.surface), []).extend(cell.images)
    assert all(tuple(images) == PLAN.images for images in seen.values())
    assert set(seen) == {(0, 0, "direct"), (1, 0, "direct"), (0, 1, "direct"), (1, 1, "direct"), (1, 1, "transfer")}


def test_cells_have_names_of_their_own() -> None:
    names = [cell.id for cell in PLAN.cells()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "change",
    [
        {"data_fingerprint": "d1"},
        {"seed": 1},
        {"batch_size": 5},
        {"threads": 2},
        {"device": "cuda"},
        {"models": (replace(PLAN.models[0], fingerprint="f99"), replace(PLAN.models[1], fingerprint="f98"))},
    ],
)
def test_whatever_rows_depend_on_changes_the_names(change: dict) -> None:
    assert not {cell.id for cell in PLAN.cells()} & {cell.id for cell in replace(PLAN, **change).cells()}


def test_adding_a_threat_keeps_the_cells_there_were() -> None:
    more = replace(PLAN, threats=(*PLAN.threats, PlannedThreat("gaussian:std=0.1", "noise", False, 1.0)))
    more.refuse_mixing(PLAN, "runs/x")
    assert {cell.id for cell in PLAN.cells()} < {cell.id for cell in more.cells()}


@pytest.mark.parametrize("change", [{"seed": 1}, {"images": (1,)}, {"batch_size": 3}, {"data": "folder:x"}])
def test_another_run_in_the_same_folder_is_refused(change: dict) -> None:
    with pytest.raises(UserError, match="choose another --out"):
        replace(PLAN, **change).refuse_mixing(PLAN, "runs/x")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"models": 3}'])
def test_a_damaged_plan_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"plan\.json is damaged"):
        Plan.from_json(text)
