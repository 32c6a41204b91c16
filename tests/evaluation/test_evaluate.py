"""The measurement as a whole, on nets so small that every number can be recomputed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import vallum
from vallum.defences.base import Defence, Surface, declares_chance
from vallum.errors import UserError
from vallum.evaluation.evaluator import choose
from vallum.evaluation.run import Run
from vallum.evaluation.summary import UNION, WORST
from vallum.images import Task
from vallum.models.model import Wrapped
from vallum.threats import PGD, Gaussian
from vallum.threats.base import Threat

THREATS_HERE = ("gaussian:std=0.1", "pgd:eps=8/255,steps=5", "random_search:eps=8/255,queries=10")


def images(n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 4
    pictures = torch.rand(n, 3, 8, 8, generator=generator) * 0.5
    for i, label in enumerate(labels):  # the class is which quarter is a little brighter
        r, c = divmod(int(label), 2)
        pictures[i, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] += 0.12
    return pictures, labels


def classifier(gain: float = 8.0) -> nn.Module:
    """Reads the mean of each quarter: right on most images, and easily moved."""
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(12, 4, bias=False))
    with torch.no_grad():
        net[2].weight.copy_(gain * torch.eye(4).repeat(1, 3))
    return net.eval()


def rows(run: Run, columns: str = "*") -> list[tuple]:
    return run.query(f"SELECT {columns} FROM rows ORDER BY model, threat, surface, key").fetchall()


def test_clean_accuracy_is_what_the_model_scores(tmp_path: Path) -> None:
    pictures, labels = images()
    net = classifier()
    run = vallum.evaluate(net, (pictures, labels), "gaussian:std=0.1", out=tmp_path, progress=False)
    expected = float((net(pictures).argmax(1) == labels).float().mean())
    found = next(row for row in run.summary if row["threat"] == "clean")
    assert found["value"] == pytest.approx(expected)
    assert found["n"] == 40
    assert found["forwards"] == 40
    assert found["backwards"] == 0
    noisy = Gaussian(std=0.1)(net, pictures, labels, range(40))
    expected = float((net(noisy).argmax(1) == labels).float().mean())
    assert next(row for row in run.summary if row["threat"] != "clean")["value"] == pytest.approx(expected)


def test_rows_say_what_happened_to_each_image(tmp_path: Path) -> None:
    pictures, labels = images()
    run = vallum.evaluate(classifier(), (pictures, labels), PGD(8 / 255, steps=5), out=tmp_path, progress=False)
    linf = np.array([row[0] for row in rows(run, "linf")])
    assert linf[:40].max() == 0
    assert 0 < linf[40:].max() <= 8 / 255 * (1 + 1e-4)
    assert [row[0] for row in rows(run, "label")] == labels.tolist() * 2
    assert all(
        (prediction == label) == correct for prediction, label, correct in rows(run, "prediction, label, correct")
    )


def test_every_early_image_is_worse_off_in_the_worst_case(tmp_path: Path) -> None:
    run = vallum.evaluate(classifier(), images(), THREATS_HERE, out=tmp_path, progress=False)
    attacks = [o for o in run.outcomes if o.threat.startswith(("pgd", "random", "clean"))]
    worst = next(o for o in run.outcomes if o.threat == WORST)
    assert worst.accuracy.tolist() == np.stack([o.accuracy for o in attacks]).min(0).tolist()


def test_an_attack_that_gives_images_back_as_they_were_is_told_on(tmp_path: Path) -> None:
    class Rounded(nn.Module):
        """No gradient passes a rounding: what follows it stands still, and finds nothing."""

        def forward(self, given: Tensor) -> Tensor:
            return classifier()((given * 255).round() / 255)

    pictures, labels = images()
    right = int((Rounded()(pictures).argmax(1) == labels).sum())
    for net, told in ((Rounded().eval(), True), (classifier(), False)):
        out = tmp_path / str(told)
        run = vallum.evaluate(net, (pictures, labels), ["fgsm:eps=8/255", "fgsm:eps=0"], out=out, progress=False)
        notes = [note for note in run.environment["notes"] if "as they were" in note]
        assert len(notes) == told, notes
        assert not told or f"fgsm:eps=8/255 left {right} of 40 images as they were" in notes[0]


def test_what_refuses_masks_does_so_before_anything_is_run(tmp_path: Path) -> None:
    pictures = torch.rand(4, 3, 8, 8)
    net = vallum.load_model(nn.Conv2d(3, 2, 1).eval(), task="segment").eval()
    with pytest.raises(UserError, match=r"hop_skip_jump against a segmenter.* take square"):
        vallum.evaluate(net, (pictures, (pictures[:, 0] > 0.5).long()), "hop_skip_jump", out=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_passes_are_counted(tmp_path: Path) -> None:
    attack = PGD(1 / 255, steps=3, restarts=2, early_stop=False)
    run = vallum.evaluate(classifier(), images(), attack, out=tmp_path, progress=False)
    found = next(row for row in run.summary if row["threat"].startswith("pgd"))
    assert found["backwards"] == 40 * 3 * 2
    assert found["forwards"] == 40 * (4 * 2 + 1)  # the last point of each restart, and the verdict


@pytest.mark.parametrize("workers", [2])
def test_rows_are_the_same_for_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    sources = ({"net": vallum.load_model("net:resnet?classes=43")}, "builtin:signs")
    common = {"threats": THREATS_HERE[:2], "n": 24, "batch_size": 8, "progress": False}
    alone = vallum.evaluate(*sources, **common, out=tmp_path / "one")
    together = vallum.evaluate(*sources, **common, out=tmp_path / "several", workers=workers)
    assert rows(alone) == rows(together)


def test_batch_size_changes_rounding_only(tmp_path: Path) -> None:
    found = {}
    for size in (1, 7, 40):
        run = vallum.evaluate(
            classifier(), images(), THREATS_HERE, out=tmp_path / str(size), batch_size=size, progress=False
        )
        found[size] = rows(run, "threat, key, prediction")
    differing = sum(a != b for size in (1, 7) for a, b in zip(found[size], found[40], strict=True))
    assert differing / (2 * len(found[40])) <= 0.005


def test_the_same_command_does_nothing_twice(tmp_path: Path) -> None:
    first = vallum.evaluate(classifier(), images(), THREATS_HERE, out=tmp_path, batch_size=16, progress=False)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    before = rows(first)
    victim = sorted(made)[1]
    victim.unlink()
    sorted(made)[2].write_bytes(b"PAR1 damaged")
    again = vallum.evaluate(classifier(), images(), THREATS_HERE, out=tmp_path, batch_size=16, progress=False)
    assert rows(again) == before
    untouched = [path for path in made if path not in sorted(made)[1:3]]
    assert all(path.stat().st_mtime_ns == made[path] for path in untouched)


def test_a_threat_can_be_added_to_a_run(tmp_path: Path) -> None:
    vallum.evaluate(classifier(), images(), THREATS_HERE[:1], out=tmp_path, progress=False)
    made = {path.name for path in (tmp_path / "cells").iterdir()}
    vallum.evaluate(classifier(), images(), THREATS_HERE, out=tmp_path, progress=False)
    assert made < {path.name for path in (tmp_path / "cells").iterdir()}
    with pytest.raises(UserError, match="other seed"):
        vallum.evaluate(classifier(), images(), THREATS_HERE, out=tmp_path, seed=1, progress=False)


def test_a_run_keeps_what_it_has_measured_where_every_model_has_met_it(tmp_path: Path) -> None:
    noise, pgd = "gaussian:std=0.1", "pgd:eps=8/255,steps=5"

    def measure(models: dict[str, nn.Module], *threats: str, **how: Any) -> Run:
        return vallum.evaluate(models, images(), threats, out=tmp_path, pictures=0, progress=False, **how)

    def table(run: Run) -> dict[str, set[str]]:
        return {m.name: {o.threat for o in run.outcomes if o.model == m.name} for m in run.plan.models}

    one, two = classifier(), classifier(2.0)
    first = measure({"one": one}, pgd)
    kept = measure({"one": one}, noise)
    assert table(kept) == {"one": {"clean", noise, pgd, WORST}}
    assert kept.unfinished == 0
    assert rows(kept) == sorted(rows(first) + [row for row in rows(kept) if row[1] == noise])
    assert any("measured by an earlier call and kept: " + pgd in note for note in kept.environment["notes"])
    written = json.loads((tmp_path / "summary.json").read_text())
    assert {row["threat"] for row in written} == {"clean", noise, pgd, WORST}

    added = measure({"two": two}, noise)  # which has not met pgd, so that no worst attack stands beside another's
    assert table(added) == {"two": {"clean", noise}, "one": {"clean", noise}}
    assert any(f"not in this table: {pgd};" in note for note in added.environment["notes"])

    other = measure({"one": two}, pgd)  # the same name for another model: nothing of the first is taken for it
    assert table(other) == {"one": {"clean", pgd, WORST}}
    assert {one.fingerprint for one in other.plan.models} == {one.fingerprint for one in added.plan.models[:1]}
    said = f"not in this table: {noise}, two; one: no more the model"
    assert any(said in note for note in other.environment["notes"])


def test_what_is_kept_has_been_attacked_as_it_would_be_now(tmp_path: Path) -> None:
    bare = Wrapped(classifier(), classes=4)
    how: dict[str, Any] = {"out": tmp_path, "progress": False}
    vallum.evaluate({"it": Rounding(bare)}, images(8), PGD(16 / 255, steps=2), **how)
    kept = vallum.evaluate({"it": Rounding(bare)}, images(8), "random_search:eps=8/255,queries=5", **how)
    found = {one.surface for one in kept.outcomes if one.threat == "pgd:eps=16/255,steps=2" and one.model == "it"}
    assert found == {"direct", "straight-through", "black-box", "transfer", UNION}
    fewer = vallum.evaluate({"it": DirectOnly(bare)}, images(8), "gaussian:std=0.1", **how)
    assert {one.threat for one in fewer.outcomes if one.model == "it"} == {"clean", "gaussian:std=0.1"}


class Rounding(Defence):
    """Rounds pixels to eight levels: no gradient comes through, and nothing else is gained."""

    randomised = stateful = False

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model((pictures * 8).round() / 8)


def test_a_defence_is_attacked_through_all_its_surfaces(tmp_path: Path) -> None:
    bare = Wrapped(classifier(), classes=4)
    models = {"bare": bare, "defended": Rounding(bare)}
    run = vallum.evaluate(models, images(), PGD(16 / 255, steps=5), out=tmp_path, progress=False)
    left = {(o.model, o.surface): o.accuracy for o in run.outcomes if o.threat.startswith("pgd")}
    ways = ("direct", "straight-through", "black-box", "transfer")
    assert set(left) == {("bare", "direct"), *(("defended", way) for way in (*ways, UNION))}
    assert left["defended", "direct"].mean() > 0.8  # its gradient is zero: head on it looks strong
    assert left["defended", "straight-through"].mean() < 0.4  # and falls where the rounding is passed over
    union = np.stack([left["defended", way] for way in ways]).min(0)
    assert left["defended", UNION].tolist() == union.tolist()
    assert next(m for m in run.plan.models if m.name == "defended").ignorant == ("transfer",)


class DirectOnly(Rounding):
    def attack_surfaces(self) -> tuple[Surface, ...]:
        return (Surface("direct", self),)


class Undeclared(Defence):
    def purify(self, pictures: Tensor) -> Tensor:
        return (pictures * 8).round() / 8


class Blind(Rounding):
    """Says that its gradient is exact, so that nobody goes straight through it."""

    exact_gradient = True


def test_notes_tell_a_gradient_that_is_hidden_from_one_that_a_surface_finds(tmp_path: Path) -> None:
    bare = Wrapped(classifier(), classes=4)
    models = {"declared": Rounding(bare), "undeclared": Undeclared(bare), "blind": Blind(bare)}
    run = vallum.evaluate(models, images(8), PGD(4 / 255, steps=1), out=tmp_path, progress=False)
    declared, undeclared, chance, blind = run.environment["notes"]
    covered = "attacked directly, its gradient is exactly zero for 8 of 8 images; covered by straight-through, "
    assert declared.startswith(f"declared: {covered}")
    assert undeclared.startswith(f"undeclared: {covered}")
    assert chance.startswith("undeclared does not declare whether it draws at random, and is taken to")
    assert blind.startswith("blind: the gradient is exactly zero everywhere for 8 of 8 images")


def test_whether_chance_is_declared_is_seen_in_a_stack() -> None:
    bare = Wrapped(classifier(), classes=4)
    assert not declares_chance(Undeclared(bare))
    assert not declares_chance(Rounding(Undeclared(bare)))
    owns_up = Rounding(Undeclared(bare))
    owns_up.model.randomised = True
    assert declares_chance(owns_up)


class OneWay(Defence):
    def attack_surfaces(self) -> tuple[Surface, ...]:
        return (Surface("through the bare model", self.model),)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model(pictures)


def test_only_declared_surfaces_are_used(tmp_path: Path) -> None:
    run = vallum.evaluate(
        OneWay(Wrapped(classifier(), classes=4)), images(), THREATS_HERE, out=tmp_path, progress=False
    )
    surfaces = {o.surface for o in run.outcomes if o.threat != WORST and not o.model.endswith("undefended")}
    assert surfaces == {"through the bare model"}


class Cheat(Threat):
    kind = "attack"
    seed = 0

    def __init__(self, cheat: str) -> None:
        self.cheat = cheat

    @property
    def spec(self) -> str:
        return f"cheat {self.cheat}"

    @property
    def budget(self):
        return PGD(4 / 255).budget

    def __call__(self, model, pictures, labels, keys=None):
        return {
            "far": (pictures + 0.1).clamp(0, 1),
            "bright": pictures + 1.5 / 255 + (1 - pictures),
            "lost": pictures[:-1],
            "nan": pictures * float("nan"),
        }[self.cheat]


@pytest.mark.parametrize(
    ("cheat", "said"),
    [("far", "leaves its ball"), ("bright", "in \\[0, 1\\]"), ("lost", "has shape"), ("nan", "NaN")],
)
def test_what_an_attack_returns_is_verified(tmp_path: Path, cheat: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        vallum.evaluate(classifier(), images(), Cheat(cheat), out=tmp_path, progress=False)


def test_segmentation_rows_give_the_miou(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(6, 3, 8, 8, generator=generator)
    masks = pictures.argmax(1)
    masks[:, 0] = 255
    net = Wrapped(nn.Conv2d(3, 3, 1, bias=False), task=Task.SEGMENT, classes=3).eval()
    with torch.no_grad():
        net.network.weight.copy_(torch.eye(3)[:, :, None, None] * 4)
    net.network.weight.requires_grad_(False)
    run = vallum.evaluate(net, (pictures, masks), "pgd:eps=16/255,steps=5", out=tmp_path, progress=False, batch_size=4)
    left = {(row["threat"], row["metric"]): row["value"] for row in run.summary}
    assert left["clean", "mIoU"] == left["clean", "pixel accuracy"] == 1
    found = PGD(16 / 255, steps=5)
    answers = torch.cat(
        [net(found(net, pictures[i], masks[i], i)).argmax(1) for i in (torch.arange(4), torch.arange(4, 6))]
    )
    valid = masks != 255
    ious = [
        ((answers == k) & (masks == k) & valid).sum() / (((answers == k) | (masks == k)) & valid).sum()
        for k in range(3)
    ]
    assert left[found.spec, "mIoU"] == pytest.approx(float(sum(ious) / 3), abs=1e-6)
    assert left[found.spec, "pixel accuracy"] == pytest.approx(float(((answers == masks) & valid).sum() / valid.sum()))


def segmenter() -> nn.Module:
    """Which of three colours is the strongest, pixel by pixel."""
    return nn.Conv2d(3, 3, 1, bias=False).requires_grad_(False).eval()


def masked(n: int = 4) -> tuple[Tensor, Tensor]:
    pictures = images(n)[0]
    return pictures, pictures.argmax(1)


def test_a_network_whose_task_nobody_said_takes_that_of_the_data(tmp_path: Path) -> None:
    class Dimmed(Defence):
        randomised, exact_gradient, stateful = False, True, False

        def purify(self, images: Tensor) -> Tensor:
            return images * 0.9

    net = segmenter()
    net.weight.copy_(torch.eye(3)[:, :, None, None])  # type: ignore[union-attr]
    models = {"plain": net, "dimmed": Dimmed(vallum.load_model(net))}
    run = vallum.evaluate(models, masked(), "gaussian:std=0.1", out=tmp_path, progress=False)
    assert run.plan.task == "segment"
    assert [one["value"] for one in run.summary if one["threat"] == "clean" and one["metric"] == "mIoU"][:2] == [1, 1]


def test_a_network_whose_task_is_known_is_refused_other_data(tmp_path: Path) -> None:
    said = r"load_model\(\.\.\., task='segment'\), --task segment"
    declared = vallum.load_model(segmenter(), task="classify")
    for model in (declared, vallum.load_model("net:resnet?classes=4")):
        with pytest.raises(UserError, match=said):
            vallum.evaluate(model, masked(), "clean", out=tmp_path, progress=False)
        with pytest.raises(UserError, match=said):
            vallum.audit(model, masked(), progress=False)
    with pytest.raises(UserError, match="--task classify"):
        vallum.evaluate(vallum.load_model(segmenter(), task="segment"), images(4), out=tmp_path, progress=False)


def test_a_classifier_is_no_segmenter_because_the_data_have_masks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a segmenter \(N, K, H, W\)"):
        vallum.evaluate(classifier(), masked(), "clean", out=tmp_path, progress=False)


def test_models_are_compared_on_the_same_images(tmp_path: Path) -> None:
    run = vallum.evaluate(
        {"a": classifier(), "b": classifier(-8.0)}, images(), THREATS_HERE[0], out=tmp_path, progress=False
    )
    pair = next(p for p in run.comparisons if p["threat"] == "clean")
    assert (pair["first"], pair["second"], pair["n"]) == ("a", "b", 40)
    assert pair["both"] + pair["only_first"] + pair["only_second"] + pair["neither"] == 40
    assert pair["p"] < 1e-6


def test_a_targeted_attack_gets_other_classes_as_targets(tmp_path: Path) -> None:
    attack = PGD(64 / 255, steps=20, targeted=True)
    run = vallum.evaluate(classifier(), images(), attack, out=tmp_path, progress=False)
    moved = [row for row in rows(run, "threat, label, prediction") if row[0] == attack.spec]
    assert sum(label != prediction for _, label, prediction in moved) > 30
    assert len({prediction - label for _, label, prediction in moved}) > 3


def test_the_run_says_how_to_repeat_it(tmp_path: Path) -> None:
    run = vallum.evaluate(classifier(), images(), THREATS_HERE, out=tmp_path, progress=False, seed=3)
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["seed"] == 3
    assert all("seed=3" in t["spec"] for t in plan["threats"] if t["kind"] != "clean")
    assert run.environment["versions"]["torch"] == torch.__version__
    for name in ("summary", "comparisons", "environment"):
        json.loads((tmp_path / f"{name}.json").read_text())
    assert set(run.summary[0]) == {
        "model", "threat", "surface", "metric", "value", "low", "high", "n", "forwards", "backwards", "seconds",
    }  # fmt: skip


def test_images_are_drawn_evenly_and_by_the_seed() -> None:
    assert choose(10, None, 0) == list(range(10))
    assert choose(1000, 50, 0) == choose(1000, 50, 0) == sorted(set(choose(1000, 50, 0)))
    assert choose(1000, 50, 0) != choose(1000, 50, 1)
    assert set(choose(1000, 20, 0)) <= set(choose(1000, 50, 0))  # a longer run holds the shorter one


def test_a_mask_moves_along_with_its_pixels(tmp_path: Path) -> None:
    """Each pixel's colour is its class: a net that reads colours stays right only if masks are warped as images are."""
    generator = torch.Generator().manual_seed(2)
    blocks = torch.randint(3, (4, 4, 4), generator=generator)
    masks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)  # (4, 32, 32)
    pictures = torch.nn.functional.one_hot(masks, 3).movedim(3, 1).float()
    net = Wrapped(nn.Identity(), task=Task.SEGMENT, classes=3).eval()
    run = vallum.evaluate(net, (pictures, masks), "elastic_transform:5", out=tmp_path, progress=False)
    left = {row["threat"]: row["value"] for row in run.summary if row["metric"] == "pixel accuracy"}
    moved = next(value for name, value in left.items() if name != "clean")
    still = vallum.threat("elastic_transform:5")(net, pictures, masks, range(4)).argmax(1)
    assert left["clean"] == 1
    assert moved > 0.97
    assert moved > float((still == masks).float().mean()) + 0.02  # without it the warp itself would count as error
