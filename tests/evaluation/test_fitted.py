"""Threats that are fitted first: on which images, once, the same however a run is worked, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import beta
from test_evaluate import classifier, images, rows
from torch import Tensor, nn

import vallum
from vallum.data import Data, load_data
from vallum.defences import draws_for
from vallum.defences.base import Defence, Surface
from vallum.defences.surface import black_box
from vallum.errors import UserError
from vallum.evaluation import eps_star, transfer_matrix
from vallum.evaluation.evaluator import choose
from vallum.evaluation.fitting import source
from vallum.evaluation.outside import setting, wrong_on
from vallum.evaluation.radius import crossing, crossing_interval, search
from vallum.evaluation.run import Run
from vallum.evaluation.sections import Matrix, read
from vallum.images import Task
from vallum.models import Wrapped
from vallum.models.model import Model
from vallum.threats import PGD, THREATS, Found, Universal, threat
from vallum.threats.universal.pool import marks

SPEC = "universal:eps=16/255,steps=4,images=16,targets=0"
QUICK: dict[str, Any] = {"progress": False, "batch_size": 8}


def test_no_image_meets_what_was_fitted_on_it() -> None:
    data, attack = load_data(images(40)), Universal(images=16)
    apart = source(attack, data, range(10), seed=0)
    assert apart.folds == [list(range(10, 40))]
    crossed = source(attack, data, range(40), seed=0)  # all are evaluated: each half meets what the other half gave
    assert len(crossed.folds) == 2
    for index in range(40):
        assert index not in crossed.folds[crossed.of[index]]
    assert sorted(crossed.folds[0] + crossed.folds[1]) == list(range(40))
    some = source(attack, data, range(36), seed=0)  # four are left, too few for 16
    assert all(set(fold) >= {36, 37, 38, 39} for fold in some.folds)
    assert crossed.fingerprint != some.fingerprint != apart.fingerprint
    own = source(Universal(data="builtin:signs?n=50"), load_data("builtin:signs?n=20"), range(20), seed=0)
    assert own.data.spec == "builtin:signs?n=50"
    assert own.folds == [list(range(20, 50))]  # the first twenty are evaluated
    assert "20 of the 50 images of builtin:signs?n=50 are evaluated" in own.notes[0]
    other = source(Universal(data="builtin:signs?split=val&n=50"), load_data("builtin:signs?n=20"), range(20), seed=0)
    assert (other.folds, other.notes) == ([list(range(50))], ())
    with pytest.raises(UserError, match="20 of the 20 images of builtin:signs"):
        source(Universal(data="builtin:signs?n=20"), load_data("builtin:signs?n=20"), range(20), seed=0)
    segments = load_data((torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4).long()), task="segment")
    with pytest.raises(UserError, match="is there to classify"):
        source(Universal(data="builtin:signs?n=50"), segments, range(2), seed=0)


def files(folder: Path, n: int) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (n, 8, 8, 3), dtype=np.uint8)
    for number, one in enumerate(pixels):
        place = folder / "ab"[number % 2] / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place)
    return folder


def test_files_are_known_again_wherever_they_lie(tmp_path: Path) -> None:
    whole, copies = files(tmp_path / "whole", 16), files(tmp_path / "copies", 10)
    data, copied = load_data(f"folder:{whole}"), load_data(f"folder:{copies}")
    named = {Path(data.name(index)).name: index for index in range(16)}
    there = [named[Path(copied.name(index)).name] for index in range(10)]
    apart = source(Universal(data=f"folder:{whole}"), copied, range(10), seed=0)
    assert apart.folds == [sorted(set(range(16)) - set(there))]
    smaller = source(Universal(data=f"folder:{whole}"), load_data(f"folder:{copies}", size=4), range(10), seed=0)
    assert "nobody can tell" in smaller.notes[0]
    net, spec = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval(), f"{SPEC},data=folder:{whole}"
    run = vallum.evaluate(net, f"folder:{copies}", spec, out=tmp_path / "run", **QUICK)
    assert any("10 of the 16 images" in note for note in run.environment["notes"])
    (found,) = run.perturbations
    assert Found.load(found["path"]).seen == (frozenset(marks(data, apart.folds[0]).values()),)
    with pytest.warns(UserWarning, match="10 of the 16 images"):
        setting({"net": net}, copied, spec, 10, 0, 8, "cpu")


def test_a_saved_perturbation_meets_what_it_was_not_fitted_on_or_warns(tmp_path: Path) -> None:
    net, data = classifier(), images(24)
    run = vallum.evaluate(net, data, SPEC, out=tmp_path / "first", **QUICK)
    path = run.perturbations[0]["path"]
    spec = f"perturbation:{path}"
    again = vallum.evaluate(net, data, spec, out=tmp_path / "again", **QUICK)
    assert again.environment["notes"] == run.environment["notes"]
    assert rows(again, "correct, linf")[24:] == rows(run, "correct, linf")[24:]  # each the half that it met before
    turned = (data[0].flip(0), data[1].flip(0))  # the same images in other places
    other = vallum.evaluate(net, turned, spec, out=tmp_path / "turned", **QUICK)
    assert [row[0] for row in rows(other, "correct")][24:] == [row[0] for row in rows(run, "correct")][24:][::-1]
    some = vallum.evaluate(net, data, SPEC, n=8, out=tmp_path / "some", **QUICK)  # fitted on the sixteen others
    spec = f"perturbation:{some.perturbations[0]['path']}"
    whole = vallum.evaluate(net, data, spec, out=tmp_path / "whole", **QUICK)
    assert any("was fitted on 16 of the 24 images" in note for note in whole.environment["notes"])
    Found(torch.zeros(1, 3, 8, 8), "inf", 0.1).save(tmp_path / "old.safetensors")
    old = vallum.evaluate(net, data, f"perturbation:{tmp_path / 'old.safetensors'}", out=tmp_path / "old", **QUICK)
    assert any("does not say which images" in note for note in old.environment["notes"])


def test_the_rows_are_those_of_the_threat_fitted_by_hand(tmp_path: Path) -> None:
    net, (pictures, labels) = classifier(), images(40)
    run = vallum.evaluate(net, (pictures, labels), SPEC, n=12, out=tmp_path, **QUICK)
    keys = run.plan.images
    attack = threat(SPEC)
    assert isinstance(attack, Universal)
    model = vallum.load_model(net)
    by_hand = attack.fit(model, load_data((pictures, labels)), sorted(set(range(40)) - set(keys)))
    moved = by_hand(model, pictures[list(keys)], labels[list(keys)])
    expected = (net(moved).argmax(1) == labels[list(keys)]).tolist()
    assert [row[0] for row in rows(run, "correct") if True][12:] == expected
    (found,) = run.perturbations
    assert (found["threat"], found["surface"]) == (attack.spec, "direct")
    assert Path(found["path"]).with_suffix(".png").is_file()
    assert by_hand.found is not None
    assert torch.equal(Found.load(found["path"]).deltas, by_hand.found.deltas)
    cost = next(row for row in run.summary if row["threat"] == attack.spec)
    assert cost["backwards"] == found["folds"][0]["backwards"] > 0
    assert cost["forwards"] == found["folds"][0]["forwards"] + 12


def test_two_folds_each_meet_the_other(tmp_path: Path) -> None:
    net, data = classifier(), images(24)
    run = vallum.evaluate(net, data, SPEC, out=tmp_path, **QUICK)
    (found,) = run.perturbations
    loaded = Found.load(found["path"])
    assert loaded.deltas.shape == (2, 3, 8, 8)
    moved = loaded.on(data[0], range(24))
    assert [row[0] for row in rows(run, "correct")][24:] == (net(moved).argmax(1) == data[1]).tolist()
    assert {path.name for path in (tmp_path / "fitted").glob("*.png")} == {
        f"{Path(found['path']).stem}.{fold}.png" for fold in (0, 1)
    }


def test_resumed_it_is_fitted_once_and_the_rows_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, data = classifier(), images(40)
    whole = vallum.evaluate(net, data, SPEC, n=16, out=tmp_path / "whole", **QUICK)
    searches, original = [], Universal.search

    def counting(self: Universal, model: Any, pool: Any) -> Any:
        searches.append(1)
        if len(searches) == 1:
            raise KeyboardInterrupt
        return original(self, model, pool)

    monkeypatch.setattr(Universal, "search", counting)
    with pytest.raises(KeyboardInterrupt):
        vallum.evaluate(net, data, SPEC, n=16, out=tmp_path / "killed", **QUICK)
    assert not list((tmp_path / "killed").glob("fitted/*"))
    assert Run(tmp_path / "killed").unfinished == 1 + 2 * 2
    again = vallum.evaluate(net, data, SPEC, n=16, out=tmp_path / "killed", **QUICK)
    next((tmp_path / "killed" / "cells").glob("*.parquet")).unlink()
    again = vallum.evaluate(net, data, SPEC, n=16, out=tmp_path / "killed", **QUICK)
    assert len(searches) == 2
    assert rows(again) == rows(whole)
    assert again.unfinished == 0


@pytest.mark.slow
def test_processes_share_what_one_of_them_found(tmp_path: Path) -> None:
    sources = ["builtin:signs_resnet", "builtin:signs_resnet_robust"]
    one, two = (
        vallum.evaluate(sources, "builtin:signs?n=64", SPEC, n=32, out=tmp_path / str(w), workers=w, **QUICK)
        for w in (1, 2)
    )
    assert rows(one) == rows(two)
    for first, second in zip(one.perturbations, two.perturbations, strict=True):
        assert torch.equal(Found.load(first["path"]).deltas, Found.load(second["path"]).deltas)


class Rounded(Defence):
    """Has no gradient; a stand-in has."""

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 16).round() / 16)

    def attack_surfaces(self) -> list[Surface]:
        return [Surface("straight through", self.model), Surface("direct", self)]


def test_each_surface_has_its_own(tmp_path: Path) -> None:
    def wrapped() -> Model:
        return Wrapped(classifier(), classes=4)

    run = vallum.evaluate(Rounded(wrapped()), images(40), SPEC, n=8, out=tmp_path, undefended=False, **QUICK)
    assert [found["surface"] for found in run.perturbations] == ["straight through", "direct"]
    through, direct = (Found.load(found["path"]).deltas for found in run.perturbations)
    assert not torch.equal(through, direct)


class Dimmed(Defence):
    """Has the surfaces that every defence has."""

    randomised, exact_gradient, stateful = False, True, False

    def purify(self, images: Tensor) -> Tensor:
        return images * 0.9


FITTED = {
    "universal": "universal:eps=16/255,steps=2,images=8,batch_size=8,targets=0",
    "universal_deepfool": "universal_deepfool:eps=16/255,images=8,rounds=1",
    "universal_patch": "universal_patch:share=0.1,steps=1,images=8,batch_size=8,targets=0",
}


def test_every_fitted_threat_is_tried_here() -> None:
    assert set(FITTED) == {name for name in THREATS if THREATS[name].fits}  # type: ignore[attr-defined]


@pytest.mark.parametrize("spec", FITTED.values(), ids=FITTED)
def test_a_defence_with_the_usual_surfaces_meets_fitted_threats(spec: str, tmp_path: Path) -> None:
    defence = Dimmed(Wrapped(classifier(), classes=4))
    run = vallum.evaluate(defence, images(24), spec, n=8, out=tmp_path, **QUICK)
    met = [(found["model"], found["surface"]) for found in run.perturbations]
    assert met == [("Dimmed, undefended", "direct"), ("Dimmed", "direct"), ("Dimmed", "transfer")]
    assert run.unfinished == 0


def test_what_a_surface_makes_of_a_fitted_threat_is_fitted_if_it_needs_it(tmp_path: Path) -> None:
    class Otherwise(Dimmed):
        def attack_surfaces(self) -> list[Surface]:
            quick = Surface("quick", self, attack=lambda threat: PGD(0.05, steps=2) if threat.fits else threat)
            return [Surface("direct", self), quick]

    wrapped = Wrapped(classifier(), classes=4)
    run = vallum.evaluate(Otherwise(wrapped), images(24), SPEC, n=8, out=tmp_path, undefended=False, **QUICK)
    assert [found["surface"] for found in run.perturbations] == ["direct"]
    assert {row[0] for row in rows(run, "surface")} == {"direct", "quick"}
    assert Run(tmp_path).plan == run.plan

    class Fits(Dimmed):
        def attack_surfaces(self) -> list[Surface]:
            return [Surface("direct", self, attack=lambda threat: Universal(0.05))]

    with pytest.raises(UserError, match="ask for universal"):
        vallum.evaluate(Fits(wrapped), images(24), "pgd:eps=0.1", n=8, out=tmp_path / "refused", **QUICK)


class Painter(nn.Module):
    """A segmenter whose pixels each answer by their own colour."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 20


def test_segmenters_and_patches_are_evaluated_alike(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(24, 3, 6, 6, generator=generator) * 0.1 + 0.45
    data = load_data((pictures, pictures.argmax(1)), classes=["red", "green", "blue"], task="segment")
    painter = Wrapped(Painter().eval(), task=Task.SEGMENT, classes=data.classes)
    specs = ["universal:eps=0.12,steps=8,batch_size=8,hide=green", "universal_patch:share=0.25,steps=2,images=8"]
    run = vallum.evaluate(painter, data, specs, n=8, out=tmp_path, **QUICK)
    left = {row["threat"]: row["value"] for row in run.summary if row["metric"] == "mIoU"}
    assert left["clean"] == 1.0
    assert left[threat(specs[0]).spec] < 0.9
    assert left[threat(specs[1]).spec] == 1.0  # of what a patch covers nobody is asked, and nothing else sees it
    hidden, patch = run.perturbations
    assert hidden["folds"][0]["goal"] == "hide 1"
    assert hidden["folds"][0]["answers"].get("green", 0) < 0.15
    assert patch["folds"][0]["side"] == 3
    assert sum(patch["folds"][0]["answers"].values()) == pytest.approx(1)


def test_a_perturbation_is_tried_on_another_model(tmp_path: Path) -> None:
    data = images(40)
    run = vallum.evaluate(classifier(), data, SPEC, n=8, out=tmp_path / "first", **QUICK)
    spec = f"perturbation:{run.perturbations[0]['path']}"
    other = vallum.evaluate(classifier(gain=2.0), data, spec, n=8, out=tmp_path / "other", **QUICK)
    assert {row["threat"] for row in other.summary} >= {threat(spec).spec}
    before = other.plan.threats[1].fingerprint
    Found(torch.zeros(1, 3, 8, 8), "inf", 16 / 255).save(run.perturbations[0]["path"])
    later = vallum.evaluate(classifier(gain=2.0), data, spec, n=8, out=tmp_path / "other", **QUICK)
    assert later.plan.threats[1].fingerprint != before  # other content is another threat, not an old row


def test_a_transfer_matrix_is_each_perturbation_on_each_model(tmp_path: Path) -> None:
    data, models = images(40), {"sure": classifier(), "less": classifier(gain=2.0)}
    table = transfer_matrix(models, data, SPEC, n=12, out=tmp_path)
    assert table.names == ["sure", "less"]
    keys = choose(40, 12, 0)
    for row, name in enumerate(table.names):
        for column, model in enumerate(models.values()):
            moved = table.found[name](model, data[0][keys], data[1][keys])
            assert table.left[row][column].value == float((model(moved).argmax(1) == data[1][keys]).double().mean())
    clean = [float((model(data[0][keys]).argmax(1) == data[1][keys]).double().mean()) for model in models.values()]
    assert [cell.value for cell in table.left[-1]] == clean
    (section,) = read(tmp_path)
    assert isinstance(section, Matrix)
    assert section.rows == ("sure", "less", "nothing")
    assert section.values == tuple(tuple(cell.value for cell in row) for row in table.left)
    with pytest.raises(UserError, match="fitted to no model"):
        transfer_matrix(models, data, "pgd:eps=0.1")


def test_plans_of_before_are_read(tmp_path: Path) -> None:
    run = vallum.evaluate(classifier(), images(8), "gaussian:std=0.1", out=tmp_path, **QUICK)
    plan = json.loads((tmp_path / "plan.json").read_text())
    for one in plan["threats"]:
        del one["fitting"], one["fingerprint"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert Run(tmp_path).plan == run.plan
    assert Run(tmp_path).perturbations == []


class Threshold(nn.Module):
    """Right as long as the first colour is not brought up by more than an image's own margin."""

    def forward(self, images: Tensor) -> Tensor:
        lead = 0.5 - images[:, 0].mean((1, 2))
        return torch.stack([lead, -lead], 1)


def margins_up_to(most: float, n: int = 400) -> Data:
    pictures = torch.full((n, 3, 4, 4), 0.5)
    pictures[:, 0] -= torch.linspace(0.0005, most, n).view(-1, 1, 1)
    return load_data((pictures, torch.zeros(n).long()), classes=["kept", "lost"])


FEW = "universal:steps=4,images=40,targets=0"


def test_eps_star_of_a_model_whose_every_margin_is_known() -> None:
    """Uniform margins up to 0.2: the error at eps is eps over 0.2, and reaches a half at 0.1."""
    data, net = margins_up_to(0.2), Threshold().eval()
    attack = "universal:steps=8,images=100,targets=0"
    star = eps_star(net, data, 0.5, threat=attack, n=200, precision=1 / 255)
    assert star.low <= star.value <= star.high
    assert star.low < 0.1 < star.high
    assert abs(star.value - 0.1) < 0.015
    assert star.errors == pytest.approx([min(1, eps / 0.2) for eps in star.eps], abs=0.09)
    black = load_data((torch.zeros(400, 3, 4, 4), torch.zeros(400).long()), classes=["kept", "lost"])
    never = eps_star(net, black, 0.5, threat=attack, n=200)
    assert never.value == never.low == never.high == float("inf")


@given(st.lists(st.floats(0, 1), min_size=3, max_size=6), st.floats(0.05, 0.95))
def test_crossing_is_where_the_highest_so_far_passes(errors: list[float], error: float) -> None:
    radii = np.linspace(0, 0.2, len(errors)).tolist()
    value = crossing(radii, np.array(errors), error)
    if max(errors) < error:
        assert value == float("inf")
    else:
        rising = np.maximum.accumulate(errors)
        assert np.interp(value, radii, rising) == pytest.approx(error, abs=1e-6) or errors[0] >= error


def test_the_interval_holds_what_it_says() -> None:
    """Of 200 samples of margins the interval misses the true crossing about one time in twenty."""
    draws, radii, missed = np.random.default_rng(0), [i / 50 for i in range(11)], 0
    for _ in range(40):
        margins = draws.uniform(0, 0.2, 150)
        table = np.stack([(margins < eps).astype(float) for eps in radii])
        _, low, high = crossing_interval(radii, table, 0.5, seed=1)
        missed += not low <= 0.1 <= high
    assert missed <= 6


def bracketed(margins: np.ndarray, error: float, unit: float = 1.0) -> Any:
    return search(lambda eps: (margins < eps).astype(float), error, unit=unit, precision=None, seed=1)


@pytest.mark.parametrize(("error", "shape"), [(0.5, "even"), (0.3, "skewed")])
def test_the_interval_of_the_search_itself_has_an_end_and_holds_what_it_says(error: float, shape: str) -> None:
    """Where the largest radius of the search leaves it open, larger ones close it; and the truth is inside."""
    draws, missed, count = np.random.default_rng(3), 0, 30
    for _ in range(count):
        if shape == "even":
            margins, true = draws.uniform(0, 0.25, 150), 0.25 * error
        else:
            margins, true = draws.beta(2, 5, 150) * 0.4, 0.4 * float(beta(2, 5).ppf(error))
        star = bracketed(margins, error)
        assert np.isfinite(star.high)
        assert star.high - star.low < 0.1
        missed += not star.low <= true <= star.high
    assert missed <= 5  # of 30 at 5 %: more once in three hundred


def test_radii_beyond_change_the_upper_end_alone_and_are_few() -> None:
    margins = np.linspace(0.0005, 0.125, 200)  # 16/255 takes just half: of all samples about half have less there
    star, tried = bracketed(margins, 0.5), []
    assert max(star.eps) > 16 / 255
    within = [eps for eps in star.eps if eps <= 16 / 255]
    table = np.stack([(margins < eps).astype(float) for eps in within])
    value, low, high = crossing_interval(within, table, 0.5, seed=1)
    assert (star.value, star.low) == (value, low)
    assert high == float("inf") > star.high

    def stuck(eps: float) -> np.ndarray:  # no radius takes more than 45 %
        tried.append(eps)
        return (margins < min(eps, 0.0565)).astype(float)

    star = search(stuck, 0.45, unit=1.0, precision=None, seed=1)
    assert star.value < 16 / 255 < star.high == float("inf")
    assert len([eps for eps in tried if eps > 16 / 255]) == 5


def test_radii_in_the_norm_2_go_as_far_as_pictures_are_large() -> None:
    """Each pixel's first colour counts a sixteenth: the shortest way to 0.1 in the mean has length 0.1 * 4."""
    star = eps_star(Threshold().eval(), margins_up_to(0.4), 0.5, threat=f"{FEW},norm=2", n=200)
    assert star.value == pytest.approx(0.2 * 4, rel=0.1)
    assert 64 / 255 < star.low < 0.8 < star.high
    assert bracketed(np.full(10, 2.0), 0.5).value == float("inf")
    assert bracketed(np.full(10, 2.0), 0.5, unit=16.0).value < 2.1


def test_how_many_images_are_evaluated() -> None:
    net, data = Threshold().eval(), margins_up_to(0.2, 60)
    for n, own, expected in ((None, False, 30), (50, False, 30), (12, False, 12), (None, True, 60), (50, True, 50)):
        threat = f"{FEW},data=builtin:signs?n=20&size=32" if own else FEW
        place = setting({"net": net}, data, threat, n, 0, 64, "cpu")
        assert len(place.chosen) == expected
        assert own == (place.where.data is not data)
        assert own or not set(place.where.folds[0]) & set(place.chosen)
    star = eps_star(net, data, 0.5, threat=FEW, n=None, precision=8 / 255, device="cpu")
    assert star.value == pytest.approx(0.1, abs=0.03)


class Votes(Dimmed):
    """Answers with a vote, which has no gradient; what is under it has one."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot(self.model(images).argmax(1), 2) * 10 - 5 + 0 * images.sum()

    def attack_surfaces(self) -> list[Surface]:
        return [Surface("direct", self), Surface("beneath", self.model), Surface("black-box", self, attack=black_box)]


class Fine(nn.Module):
    """Sees the chessboard of single pixels alone, which no pattern that is tried is."""

    def forward(self, images: Tensor) -> Tensor:
        place = torch.arange(4)
        board = ((place[:, None] + place) % 2 * 2 - 1) * images[:, 0]
        lead = 0.1 - board.mean((1, 2)) * 0.9
        return torch.stack([lead, -lead], 1)


def test_a_defence_that_votes_is_attacked_through_what_has_a_gradient() -> None:
    pictures = torch.full((40, 3, 4, 4), 0.5) + torch.linspace(0, 0.1, 40).view(-1, 1, 1, 1)
    data = load_data((pictures, torch.zeros(40).long()), classes=["kept", "lost"])
    fine = Wrapped(Fine(), classes=2).eval()
    bare, votes = (eps_star(net, data, 0.5, threat=FEW, n=20, precision=4 / 255) for net in (fine, Votes(fine).eval()))
    assert bare.value == pytest.approx(0.1 / 0.9, abs=4 / 255)
    assert (votes.value, votes.low, votes.high) == (bare.value, bare.low, bare.high)


def test_a_defence_that_draws_is_judged_on_several_draws() -> None:
    class Coin(Dimmed):
        randomised = True

        def forward(self, images: Tensor) -> Tensor:
            shift = draws_for(images, "coin").uniform(purpose="side").round()[:, None] * 100
            return self.model(images) + shift * torch.tensor([-1.0, 1.0])

    coin = Coin(Wrapped(Threshold(), classes=2).eval())
    place = setting({"coin": coin}, margins_up_to(0.2, 40), FEW, 20, 0, 64, "cpu")
    wrong = wrong_on(coin, place, None)
    assert set((wrong * 10).round(6)) <= set(range(11))
    assert 0.3 < wrong.mean() < 0.7
    assert len(set(wrong)) > 2


@pytest.mark.parametrize("what", [eps_star, transfer_matrix])
def test_a_model_in_training_mode_is_refused(what: Any) -> None:
    net: Any = nn.Sequential(nn.BatchNorm2d(3), Threshold()).train()
    with pytest.raises(UserError, match="training mode"):
        what({"net": net} if what is transfer_matrix else net, margins_up_to(0.2), threat=FEW, n=20)


def test_eps_star_says_what_it_cannot_do() -> None:
    for wrong, said in (
        ({"error": 1.5}, "a share between"),
        ({"threat": "pgd:eps=0.1"}, "fitted to no model"),
        ({"threat": "universal_patch:steps=2"}, "has no radius"),
        ({"precision": 0.0}, "a length is positive"),
        ({"device": "cuda:9"}, "cuda:9"),
    ):
        with pytest.raises(UserError, match=said):
            eps_star(classifier(), images(8), **wrong)


def test_what_a_patch_covers_counts_neither_way_in_a_transfer_matrix() -> None:
    """Pixels answer by their own colour, so that a patch changes none but those that it covers."""
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(24, 3, 6, 6, generator=generator) * 0.1 + 0.45
    data = load_data((pictures, pictures.argmax(1)), classes=["red", "green", "blue"], task="segment")
    painter = Wrapped(Painter(), task=Task.SEGMENT, classes=data.classes).eval()
    table = transfer_matrix({"painter": painter}, data, "universal_patch:share=0.25,steps=2,images=8", n=8)
    assert [row[0].value for row in table.left] == [1.0, 1.0]
