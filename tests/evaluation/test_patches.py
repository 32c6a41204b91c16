"""Patches judged on models that are known through and through: one reads nothing but patches, one sees nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vallum.data import Data, load_data
from vallum.defences.defensive_patches import PatchSet, Ring
from vallum.defences.defensive_patches.readers import MatchedFilter
from vallum.errors import UserError
from vallum.evaluation.patches import Judged, evaluate_patches
from vallum.evaluation.patches.saying import verdict
from vallum.evaluation.sections import Frontier, Matrix, Rates, Tradeoff
from vallum.models import Model
from vallum.report import write_report
from vallum.report.export import markdown

CLASSES, SIZE, N, FEW = tuple("abcd"), 16, 48, 16
MASK = Ring(outer=14, inner=10).mask(SIZE, SIZE)
COLOURS = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
PATCHES = PatchSet(COLOURS, MASK, CLASSES, (SIZE, SIZE), shape="ring:outer=14,inner=10")
ONE = PatchSet(COLOURS[:1], MASK, CLASSES, (SIZE, SIZE))
HOW = {"corruptions": ["gaussian:std=0.02", "gaussian:std=0.05"], "attack": "pgd:eps=8/255,steps=3",
       "radii": [1.0], "n": N, "few": FEW, "marker": "none", "progress": False}  # fmt: skip


class Seer(Model):
    """Which quarter of the middle is brightest; blind to all around it."""

    classes = CLASSES

    def forward(self, images: Tensor) -> Tensor:
        return 40 * torch.nn.functional.avg_pool2d(images[:, :, 4:12, 4:12].mean(1, keepdim=True), 4).flatten(1)


def data(count: int = 60) -> Data:
    """Grey, with one quarter of the middle brighter; of every sixth image another quarter is brighter still."""
    labels = torch.arange(count) % 4
    images = torch.full((count, 3, SIZE, SIZE), 0.4)
    for row, label in enumerate(labels.tolist()):
        for which, light in ((label, 0.6), ((label + 1) % 4, 0.9 if row % 6 == 0 else 0.4)):
            top, left = 4 + 4 * (which // 2), 4 + 4 * (which % 2)
            images[row, :, top : top + 4, left : left + 4] = light
    return load_data((images, labels), classes=CLASSES)


def seer() -> Model:
    return Seer().eval()


def reader() -> Model:
    return MatchedFilter(PATCHES)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    models = {"reader": reader()}
    beside = {"one": ONE}
    out = tmp_path_factory.mktemp("judged")
    return evaluate_patches(PATCHES, models, data(), held_out={"seer": seer()}, beside=beside, out=out, **HOW)  # type: ignore[arg-type]


def rates(judged: Judged, title: str) -> dict[tuple[str, str], float | None]:
    found = next(one for one in judged.sections if isinstance(one, Rates) and one.title.startswith(title))
    return {
        (row, column): found.values[place][at]
        for place, row in enumerate(found.rows)
        for at, column in enumerate(found.columns)
    }


def test_who_only_reads_patches_has_no_selectivity(judged: Judged) -> None:
    found = rates(judged, "Defensive patches under corruptions")
    for column, value in {"own patch": 1, "hijacked": 1, "selectivity": 0, "patch alone": 1,
                          "right in spite of another's": 0}.items():  # fmt: skip
        assert found["reader", column] == value
    assert "it is the printed label" in judged.says[0]


def test_who_only_sees_objects_gains_nothing_and_is_not_hijacked(judged: Judged) -> None:
    bare, seen = seer(), data().batch(range(60))
    clean = float((bare(seen.images).argmax(1) == seen.labels).double().mean())
    found = rates(judged, "Defensive patches, clean and attacked")
    assert found["seer (held out)", "gain"] == 0
    assert found["seer (held out)", "own patch"] == found["seer (held out)", "no patch"]
    assert abs((found["seer (held out)", "no patch"] or 0) - clean) < 0.1  # 48 of the 60
    assert (found["seer (held out)", "hijacked"] or 0) < 0.1  # another quarter is brightest where the patch says so
    assert (found["seer (held out)", "patch alone"] or 0) < 0.7
    assert found["seer (held out)", "label-free: two pass"] is not None
    assert "nothing that chance would not do" in judged.says[1]
    assert verdict(np.zeros(90), np.ones(90), np.zeros(90), None, 0.0) == "it hurts."


def test_pixels_that_an_attack_may_touch_are_those_that_a_model_sees(judged: Judged) -> None:
    """The reader cannot be attacked through the object, the seer not through the patch."""
    found = rates(judged, "Attacks, by the pixels")
    own = rates(judged, "Defensive patches, clean and attacked")
    assert found["own patch, object only", "reader"] == 1
    few = np.mean([found["own patch, patch only", "seer (held out)"]])
    assert abs(few - (own["seer (held out)", "own patch"] or 0)) < 0.2
    curve = next(one for one in judged.sections if isinstance(one, Tradeoff) and one.knob == "eps in 1/255")
    assert all(line.values[-1] == 0 for line in curve.lines if "own patch" in line.name)  # at a radius of 1


def test_the_matrix_of_each_patch_on_each_object(judged: Judged) -> None:
    found = {one.title: one.values for one in judged.sections if isinstance(one, Matrix)}
    assert all(value == 1 for row in found["Taken for the patch's class: models made on"] for value in row)
    kept = found["Taken for what it is: models made on"]
    assert [list(row) for row in kept] == [[float(i == j) for j in range(4)] for i in range(4)]
    seen = found["Taken for what it is: models held out"]
    assert all(len(set(row)) == 1 for row in seen)  # whatever patch it wears


def test_replacement_removal_and_geometry_are_there(judged: Judged) -> None:
    found = rates(judged, "Replacement")
    assert found["reader", "best of all in its place: taken for it"] == 1
    assert found["seer (held out)", "best of all in its place: not right"] == pytest.approx(
        found["seer (held out)", "one in its place: taken for it"], abs=0.4
    )
    titles = {one.title for one in judged.sections if isinstance(one, Tradeoff)}
    assert titles >= {"Patch shifted", "Patch turned", "Patch larger or smaller", "Part of the patch gone"}


def test_one_patch_for_all_tells_no_class(judged: Judged) -> None:
    found = rates(judged, "Sets of patches")
    assert found["one, made on", "own patch"] == pytest.approx(0.25, abs=0.1)
    assert found["one, made on", "hijacked"] is None
    points = next(one for one in judged.sections if isinstance(one, Frontier)).points
    assert [point.name for point in points] == ["these"]


def test_pairs_are_tested_image_by_image(judged: Judged) -> None:
    pairs = next(one for one in judged.sections if isinstance(one, Rates) and "against each control, on" in one.title)
    row, column = pairs.rows.index("own minus grey"), pairs.columns.index("reader")
    assert pairs.signed
    ruled = pairs.rows.index(f"label-free: two pass minus nothing, {FEW} images")
    assert (
        pairs.values[ruled][pairs.columns.index("seer (held out)")] == 0
    )  # on the same images: patches tell it nothing
    assert (pairs.values[row][column] or 0) > 0.5
    assert pairs.p[row][column] < 1e-6  # type: ignore[operator]
    assert pairs.low[row][column] <= pairs.values[row][column] <= pairs.high[row][column]  # type: ignore[operator]


def test_the_report_begins_with_selectivity(judged: Judged) -> None:
    page = write_report(judged.run).read_text("utf-8")
    assert page.index("selectivity +0.0 points") < page.index("<table")
    text = markdown([judged.run])
    assert "Defensive patches under corruptions" in text
    assert "| model | selectivity | gain | own patch | hijacked |" in text


def test_a_killed_run_goes_on_and_comes_to_the_same(judged: Judged, tmp_path: Path) -> None:
    """With parts gone, and cells of one part: what is left is kept as it is, what is missing comes back."""
    out = tmp_path / "again"
    shutil.copytree(judged.folder, out)
    for gone in ("parts/wrong", "parts/own-attacked/part-done", "parts/each-patch/cells", "sections"):
        place = out / gone
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    (out / "parts/each-patch/part-done").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    models, others = {"reader": reader()}, {"seer": seer()}
    again = evaluate_patches(PATCHES, models, data(), held_out=others, beside={"one": ONE}, out=out, **HOW)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(out.rglob("*.parquet"))) > len(kept)
    assert again.sections == judged.sections
    assert json.loads((out / "patches.json").read_text())["held out"] == ["seer"]


@pytest.mark.slow
def test_retrained_and_left_out(tmp_path: Path) -> None:
    """Patches made anew without each model, and models that learn from images with their patches."""

    def net(seed: int) -> Model:
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # not the patches': weights drawn as they were would be a filter matched to them
            network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE * SIZE, 4))
        from vallum.models import load_model

        return load_model(network.eval(), classes=CLASSES)

    how = {**HOW, "n": 24, "few": 8, "each_patch": False, "corruptions": ["gaussian:std=0.02"]}
    made = PatchSet(COLOURS, MASK, CLASSES, (SIZE, SIZE), shape=PATCHES.shape, made={"maker": "ensemble"})
    judged = evaluate_patches(
        made, {"one": net(10)}, data(), held_out={"two": net(11)}, out=tmp_path, retrain=40, left_out=20,
        train_data=data(200), **how,  # type: ignore[arg-type]
    )  # fmt: skip
    found = rates(judged, "Retrained on images with their patches")
    assert found["one", "hijacked"] == pytest.approx(0, abs=0.3)
    assert found["one, retrained", "own patch"] == 1  # what it learnt
    assert found["one, retrained", "hijacked"] > found["one", "hijacked"]  # type: ignore[operator]  # and what with it
    transfer = next(one for one in judged.sections if isinstance(one, Matrix) and one.title.startswith("Transfer"))
    assert transfer.rows == ("no patch", "these", "all but one", "all but two")
    own = {row: transfer.values[place] for place, row in enumerate(transfer.rows)}
    assert own["all but two"][0] > own["all but one"][0]  # type: ignore[operator]


WRONG = {
    "and as held out": {"held_out": {"reader": reader()}},
    "is no corruption": {"corruptions": ["pgd:eps=1/255"]},
    "no images to train on": {"retrain": 1},
    "is no attack": {"attack": "fog:3"},
    "patches of 4 classes": {
        "data": load_data((torch.zeros(6, 3, SIZE, SIZE), torch.arange(6) % 3), classes=list("xyz"))
    },
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_is_refused_before_anything_runs(said: str, tmp_path: Path) -> None:
    given = {**HOW, "data": data(), "out": tmp_path / "run", **WRONG[said]}
    with pytest.raises(UserError, match=said):
        evaluate_patches(PATCHES, {"reader": reader()}, given.pop("data"), **given)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
