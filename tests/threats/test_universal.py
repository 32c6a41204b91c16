"""Universal perturbations: on models whose best one is known, in their contract, and in each of their aims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threat_oracles import Exact, Linear
from torch import Tensor, nn

from vallum.data import Data, load_data
from vallum.data.arrays import Arrays
from vallum.data.data import BrokenImageError
from vallum.errors import UserError
from vallum.images import IGNORE, Draws, Task
from vallum.models import Wrapped
from vallum.threats import Found, Pattern, Perturbation, Universal, UniversalDeepFool, UniversalPatch, threat
from vallum.threats.universal.ascent import Counter
from vallum.threats.universal.deepfool import deepfool
from vallum.threats.universal.goals import filled, hide, nearness, scene, towards
from vallum.threats.universal.laying import Paste, repeated
from vallum.threats.universal.patterns import FORMS, draw
from vallum.threats.universal.pool import Pool
from vallum.threats.universal.portrait import picture, portrait, save_picture, spectrum, variation

EPS = 8 / 255


def pictures(n: int = 60, size: int = 6, task: Task = Task.CLASSIFY, classes: int = 3) -> Data:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(n, 3, size, size, generator=generator) * 0.5 + 0.25
    shape = (n, size, size) if task is Task.SEGMENT else (n,)
    labels = torch.randint(classes, shape, generator=generator)
    return load_data((images, labels), classes=[f"class {k}" for k in range(classes)])


def leaning(data: Data) -> Linear:
    """Two classes by a random plane through the middle of the images."""
    weight = torch.randn(3 * 36, generator=torch.Generator().manual_seed(7))
    images = data.batch(range(len(data))).images.flatten(1)
    middle = (images @ weight).median()
    return Linear(torch.stack([weight, -weight]), torch.stack([-middle, middle]))


def own_labels(model: nn.Module, data: Data, which: int | None = None) -> Data:
    images = data.batch(range(len(data))).images
    answers = model(images).argmax(1)
    if which is not None:
        images, answers = images[answers == which], answers[answers == which]
    return load_data((images, answers), classes=["one", "other"])


QUICK: dict[str, Any] = {"eps": EPS, "steps": 12, "batch_size": 16, "targets": 0}


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_where_all_are_of_one_class_a_linear_model_meets_its_closed_form(norm: Any) -> None:
    """The best shared perturbation is then the best of each: eps times the steepest direction of the one border."""
    data = pictures()
    model = leaning(data)
    ones = own_labels(model, data, 0)
    eps = EPS if norm == "inf" else EPS * 10
    fitted = Universal(**{**QUICK, "eps": eps, "norm": norm}).fit(model, ones)
    assert fitted.found is not None
    slope = (model.weight[1] - model.weight[0]).detach()
    reached = float(slope @ fitted.found.deltas[0].flatten())
    best = float(eps * (slope.abs().sum() if norm == "inf" else slope.norm()))
    assert reached == pytest.approx(best, rel=1e-3 if norm == "inf" else 2e-2)


def test_it_finds_what_a_search_over_all_signs_finds() -> None:
    """A picture of four values has sixteen corners: none fools more of the images that it was chosen by."""
    generator = torch.Generator().manual_seed(3)
    images, weight = torch.rand(80, 1, 2, 2, generator=generator), torch.randn(3, 4, generator=generator) * 3
    model = Linear(weight)
    data = load_data((images, model(images).argmax(1)), classes=["a", "b", "c"])
    attack = Universal(eps=0.2, steps=40, batch_size=32, restarts=3, targets=3)
    fitted = attack.fit(model, data)
    pool = Pool(data, range(80), attack.images, attack.seed, torch.device("cpu"))
    chosen = pool.batch(pool.select)
    corners = torch.tensor(np.array(np.meshgrid(*[[-0.2, 0.2]] * 4)).reshape(4, -1).T).float().view(-1, 1, 2, 2)
    left = [float((model((chosen.images + c).clamp(0, 1)).argmax(1) == chosen.labels).float().mean()) for c in corners]
    assert fitted.found is not None
    assert fitted.found.facts["missed"] <= min(left) + 0.051  # of twenty images one


def test_clipping_reaches_what_the_loudest_image_would_keep_from_it() -> None:
    """Of two groups that pull apart the smaller shouts louder, and unclipped cross-entropy follows it."""
    weight = torch.zeros(2, 12)
    weight[0, 0], weight[1, 0] = 4.0, -4.0
    images = torch.full((40, 3, 2, 2), 0.5)
    images[:30, 0, 0, 0] = 0.52  # thirty lean to class 0, just
    model = Linear(weight, torch.tensor([-2.0, 2.0]))
    loud = torch.cat([torch.zeros(30), torch.zeros(10)]).long()  # and ten are far on the other side, and lost already
    images[30:, 0, 0, 0] = 0.1
    data = load_data((images, loud), classes=["one", "other"])
    fitted = Universal(eps=0.05, steps=8, batch_size=40, targets=0).fit(model, data)
    assert fitted.found is not None
    assert fitted.found.facts["missed"] == 0.0


def test_what_is_found_hangs_on_the_seed_alone() -> None:
    data = pictures()
    model = Exact()
    first, again, other = (Universal(**QUICK, seed=seed).fit(model, data).found for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.deltas, again.deltas)
    assert first.facts == again.facts
    assert not torch.equal(first.deltas, other.deltas)


@pytest.mark.parametrize("kind", [Universal, UniversalDeepFool])
def test_searching_leaves_the_model_as_it_was(kind: Any) -> None:
    torch.manual_seed(0)
    model = Wrapped(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)), classes=3)
    model.eval()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    small = {"steps": 3} if kind is Universal else {"rounds": 1}
    kind(eps=EPS, images=24, **small).fit(model, pictures())
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_unfitted_it_says_how_it_is_fitted() -> None:
    with pytest.raises(UserError, match="is fitted on many images before it meets any"):
        Universal()(Exact(), torch.rand(2, 3, 6, 6), torch.zeros(2).long())


def test_images_to_climb_on_and_to_choose_by_are_apart_and_each_epoch_sees_all() -> None:
    pool = Pool(pictures(40), range(40), 32, 0, torch.device("cpu"))
    assert len(pool.fit) == 24
    assert len(pool.select) == 8
    assert not set(pool.fit) & set(pool.select)
    batches = pool.stream(Draws(0, [0]), 8, 6)
    assert sorted(np.ravel(batches[:3])) == sorted(np.ravel(batches[3:])) == sorted(pool.fit)
    assert pool.batch([5]).images.shape == (1, 3, 6, 6)
    with pytest.raises(UserError, match="there are 1 images to fit"):
        Pool(pictures(40), [3], 32, 0, torch.device("cpu"))


def broken(n: int, which: set[int], task: Task = Task.CLASSIFY) -> Data:
    """Images some of which cannot be read."""

    class Holes(Arrays):
        def read(self, index: int) -> tuple[Tensor, Tensor]:
            if index in which:
                raise BrokenImageError(f"image {index} is broken")
            return super().read(index)

    data = pictures(n, task=task)
    data.__class__ = Holes
    data.on_error = "skip"
    return data


@pytest.mark.parametrize("room", [2e9, 0])
def test_images_that_cannot_be_read_are_in_neither_part(room: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallum.threats.universal.pool.ROOM", room)
    data, gone = broken(24, set(range(0, 24, 2))), set(range(0, 24, 2))
    for seed in range(4):
        pool = Pool(data, range(24), 24, seed, torch.device("cpu"))
        assert sorted(pool.fit + pool.select) == list(range(1, 24, 2))
        assert len(pool.select) == 3
        for indices in (pool.stream(Draws(0, [0]), 2, 4)[0], pool.select):
            assert pool.batch(indices).keys.tolist() == indices
    assert len(pool.batch([0, 2])) == 0
    for attack in (Universal(eps=EPS, steps=2, batch_size=2), UniversalDeepFool(eps=EPS, rounds=1)):
        assert attack.fit(Exact(), data).found is not None
    for patch in (UniversalPatch(share=0.1, steps=1, batch_size=1, seed=seed) for seed in range(2)):
        assert patch.fit(Exact(), data).found is not None
    with pytest.raises(UserError, match="there are 0 images to fit"):
        Pool(data, sorted(gone), 24, 0, torch.device("cpu"))
    with pytest.raises(UserError, match="scene=0 cannot be read"):
        Universal(**QUICK, scene=0).fit(Painter(), broken(8, {0}, Task.SEGMENT))


@pytest.mark.parametrize("form", FORMS)
def test_patterns_lie_at_the_edge_and_are_what_they_are_called(form: Any) -> None:
    signs = draw(form, (3, 8, 8), 2, 0)
    assert set(signs.flatten().tolist()) <= {-1.0, 1.0}
    images = torch.full((2, 3, 8, 8), 0.5)
    moved = Pattern(0.1, form=form)(None, images, torch.zeros(2))
    torch.testing.assert_close(moved, images + 0.1 * signs)
    if form == "chessboard":
        assert torch.equal(signs[:, :2, :2], torch.ones(3, 2, 2))
        assert torch.equal(signs[:, 2:4, :2], -torch.ones(3, 2, 2))
        assert torch.equal(signs, -signs.roll(2, -1))
    if form == "stripes":
        assert torch.equal(signs, signs[..., :1].expand_as(signs))
    if form == "columns":
        assert torch.equal(signs, signs[:, :1].expand_as(signs))
    if form == "colour":
        assert torch.equal(signs, signs[:, :1, :1].expand_as(signs))
    if form == "low_frequency":
        assert (
            sum(spectrum(draw(form, (3, 32, 32), 2, 0))[:3])
            > 0.8
            > 0.3
            > sum(spectrum(draw("signs", (3, 32, 32), 2, 0))[:3])
        )


def test_a_search_never_ends_below_the_patterns() -> None:
    class Chess(nn.Module):
        """Sees nothing but the chessboard, through a step that has no gradient."""

        def forward(self, images: Tensor) -> Tensor:
            seen = (images * draw("chessboard", (3, 6, 6), 2, 0)).flatten(1).sum(1)
            return torch.stack([-(seen > 8.5).float(), (seen > 8.5).float()], 1) + 0 * images.flatten(1)[:, :2]

    images = torch.full((30, 3, 6, 6), 0.5)
    data = load_data((images, torch.zeros(30).long()), classes=["a", "b"])
    fitted = Universal(**QUICK).fit(Chess(), data)
    assert fitted.found is not None
    assert fitted.found.facts["way"] == "chessboard"
    assert fitted.found.facts["missed"] == fitted.found.facts["missed by patterns"] == 0.0


def test_deepfool_reaches_the_border_of_a_linear_model_by_the_shortest_way() -> None:
    generator = torch.Generator().manual_seed(3)
    weight, image = torch.randn(4, 12, generator=generator), torch.rand(1, 3, 2, 2, generator=generator)
    logits = (weight @ image.flatten()).tolist()
    label = int(np.argmax(logits))
    gaps = [
        (logits[label] - logits[k]) / float((weight[label] - weight[k]).norm()) if k != label else np.inf
        for k in range(4)
    ]
    change = deepfool(Linear(weight), image, Counter())
    assert float(change.norm()) == pytest.approx(1.02 * min(gaps), rel=1e-3)
    assert int((weight @ (image + change).flatten()).argmax()) == int(np.argmin(gaps))


def test_deepfools_sum_fools_whom_a_shared_direction_can() -> None:
    data = pictures()
    model = leaning(data)
    ones = own_labels(model, data, 0)
    fitted = UniversalDeepFool(eps=EPS, rounds=4).fit(model, ones)
    assert fitted.found is not None
    assert fitted.found.facts["fooled"] >= 0.8
    assert float(fitted.found.deltas.abs().max()) <= EPS * (1 + 1e-6)
    with pytest.raises(UserError, match="against a segmenter: a classifier; it crosses"):
        UniversalDeepFool().fit(Exact(), pictures(task=Task.SEGMENT))


def test_a_saved_perturbation_is_the_same_again(tmp_path: Path) -> None:
    data, model = pictures(), Exact()
    fitted = Universal(**QUICK).fit(model, data)
    assert fitted.found is not None
    path = fitted.found.save(tmp_path / "deep" / "found.safetensors")
    batch = data.batch(range(9))
    again = Perturbation(str(path))
    assert torch.equal(again(model, batch.images, batch.labels), fitted(model, batch.images, batch.labels))
    assert Found.load(path).facts == json.loads(json.dumps(fitted.found.facts))
    half = threat(f"perturbation:{path},eps=4/255")
    moved = half(model, batch.images, batch.labels) - batch.images
    torch.testing.assert_close(moved, fitted.found.deltas.expand(9, -1, -1, -1) / 2, atol=1e-6, rtol=1e-5)
    assert half.budget is not None
    assert float(half.budget.eps) == 4 / 255
    assert again.fingerprint == half.fingerprint != ""
    warm = Universal(**{**QUICK, "steps": 1}, start=str(path)).fit(model, data)
    assert warm.found is not None
    assert warm.found.facts["missed"] <= fitted.found.facts["missed"]


def test_what_cannot_be_brought_to_a_radius(tmp_path: Path) -> None:
    data, model = pictures(), Exact()
    images, labels = data.batch(range(4)).images, data.batch(range(4)).labels
    nothing = Universal(**{**QUICK, "eps": 0.0, "steps": 1}).fit(model, data).found
    assert nothing is not None
    path = nothing.save(tmp_path / "nothing.safetensors")
    assert torch.equal(threat(f"perturbation:{path}")(model, images, labels), images)
    for again in (threat(f"perturbation:{path},eps=4/255"), Universal(**QUICK, start=str(path))):
        with pytest.raises(UserError, match="a perturbation of radius 0"):
            again.fit(model, data) if isinstance(again, Universal) else again(model, images, labels)
    patch = UniversalPatch(share=0.1, steps=1, images=8).fit(model, data).found
    assert patch is not None
    path = patch.save(tmp_path / "patch.safetensors")
    assert Found.load(path).seen == patch.seen
    assert len(patch.seen[0]) == 8
    with pytest.raises(UserError, match="a patch has no radius"):
        threat(f"perturbation:{path},eps=4/255")(model, images, labels)


@pytest.mark.parametrize(
    "attack",
    [
        Universal(eps=EPS, steps=16, batch_size=12, images=48, targets=0, restarts=restarts, target=target)
        for restarts in (1, 4)
        for target in (None, "class 1")
    ]
    + [UniversalPatch(steps=16, batch_size=12, images=48, targets=0, restarts=restarts) for restarts in (0, 3)],
    ids=lambda attack: attack.spec,
)
def test_what_a_search_takes_is_about_what_it_says(attack: Any) -> None:
    """A backward pass counts as two; what is spent on choosing is left out of the estimate."""
    model = Linear(torch.randn(3, 108, generator=torch.Generator().manual_seed(2)))
    found = attack.fit(model, pictures()).found
    assert found is not None
    assert attack.fitting_passes == pytest.approx(3 * found.facts["backwards"], rel=0.15)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Perturbation(str(tmp_path / "none"))(Exact(), torch.rand(1, 3, 6, 6), torch.zeros(1))
    (tmp_path / "bad").write_bytes(b"nothing of the sort")
    with pytest.raises(UserError, match="cannot be read"):
        Found.load(tmp_path / "bad")
    from safetensors.torch import save_file

    save_file({"deltas": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(UserError, match="no universal perturbation"):
        Found.load(tmp_path / "other")
    grey = Found(torch.zeros(1, 1, 4, 4), "inf", 0.1)
    with pytest.raises(UserError, match="1 channels: the images 3"):
        grey.on(torch.rand(1, 3, 4, 4), None, 0.1)


def test_an_image_meets_what_was_fitted_on_others() -> None:
    deltas = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), -0.1)])
    found = Found(deltas, "inf", 0.1, folds={7: 1, 8: 0})
    moved = found.on(torch.full((3, 3, 4, 4), 0.5), [7, 8, 9], 0.1)
    assert moved[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.6, 0.6])


def test_tiles_repeat_and_their_gradients_add_up() -> None:
    tile = torch.arange(6.0).view(1, 1, 2, 3).requires_grad_()
    whole = repeated(tile, 5, 7)
    for y in range(5):
        for x in range(7):
            assert whole[0, 0, y, x] == tile[0, 0, y % 2, x % 3]
    whole.sum().backward()
    counts = [
        [sum(1 for y in range(5) for x in range(7) if (y % 2, x % 3) == (r, c)) for c in range(3)] for r in range(2)
    ]
    assert tile.grad is not None
    assert tile.grad[0, 0].tolist() == counts


class Painter(nn.Module):
    """A segmenter whose pixels each answer by their own colour."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 20  # class 0 where red leads, 1 where green does, 2 where blue does


def painted(n: int = 24) -> Data:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(n, 3, 6, 6, generator=generator) * 0.1 + 0.45
    labels = images.argmax(1)
    labels[:, 0] = IGNORE
    return load_data((images, labels), classes=["red", "green", "blue"], task="segment")


def test_segmentation_untargeted_towards_a_scene_and_hiding_a_class() -> None:
    data, model = painted(), Painter()
    quick: dict[str, Any] = {"eps": 0.12, "steps": 20, "batch_size": 8}
    away = Universal(**quick).fit(model, data)
    shown = Universal(**quick, scene=3).fit(model, data)
    hidden = Universal(**quick, hide="green").fit(model, data)
    batch = data.batch(range(24))
    answers = {
        name: model(one(model, batch.images, batch.labels)).argmax(1)
        for name, one in (("away", away), ("shown", shown), ("hidden", hidden))
    }
    valid = batch.labels != IGNORE
    assert float((answers["away"] == batch.labels)[valid].float().mean()) < 0.4
    target = batch.labels[3].expand_as(batch.labels)
    assert float((answers["shown"] == target)[valid].float().mean()) > 0.95
    assert away.found is not None
    before = float((model(batch.images).argmax(1) == 1).float().mean())
    assert float((answers["hidden"] == 1).float().mean()) < 0.1 < before
    tiled = Universal(**quick, tile=2).fit(model, data)
    assert tiled.found is not None
    assert tiled.found.deltas.shape == (1, 3, 2, 2)
    with pytest.raises(UserError, match="aims for segmenters"):
        Universal(hide="class 1", **QUICK).fit(Exact(), pictures())
    with pytest.raises(UserError, match="did you mean green"):
        Universal(hide="gren", **quick).fit(model, data)


def test_a_class_that_all_shall_be_taken_for() -> None:
    data, model = pictures(), Linear(torch.randn(3, 108, generator=torch.Generator().manual_seed(2)) * 0.3)
    images = data.batch(range(60)).images
    data = load_data((images, model(images).argmax(1)), classes=["class 0", "class 1", "class 2"])
    fitted = Universal(**{**QUICK, "eps": 0.2, "steps": 30}, target="class 1").fit(model, data)
    assert float((model(fitted(model, images, images)).argmax(1) == 1).float().mean()) > 0.9


@pytest.mark.parametrize("place", ["anywhere", "centre", "corner"])
def test_a_patch_lies_where_it_should_and_touches_nothing_else(place: Any) -> None:
    images = torch.rand(40, 3, 9, 7, generator=torch.Generator().manual_seed(0)) * 0.9
    patch = torch.full((1, 3, 3, 2), 0.5)
    patch[:, :, 0] = 0.4  # its upper row a little darker
    moved = Paste(place, 1)(images, patch, range(40), "met")
    there = (moved != images).any(1)
    assert bool((there.flatten(1).sum(1) == 6).all())
    corners = set()
    for row in range(40):
        down, right = (int(place[0]) for place in torch.where(there[row]))
        corners.add((down, right))
        assert torch.allclose(moved[row, :, down : down + 3, right : right + 2], patch[0] + 0.5)
    assert {"centre": {(3, 2)}, "corner": {(6, 5)}}.get(place, corners) == corners
    assert place != "anywhere" or len(corners) > 20
    rows = [7, 3]
    assert torch.equal(Paste(place, 1)(images[rows], patch, rows, "met"), moved[rows])
    leaf = patch.clone().requires_grad_()
    Paste(place, 1)(images, leaf * 0.9, range(40), "met").sum().backward()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, torch.full_like(leaf, 0.9 * 40))
    with pytest.raises(UserError, match="the images have 9x7"):
        Paste(place, 1)(images, torch.zeros(1, 3, 10, 2), range(40), "met")


def test_a_patch_shows_what_a_colour_counter_is_most_moved_by(tmp_path: Path) -> None:
    """Red counts for one class, green for the other: the best patch is all green, wherever it lies."""

    class Colours(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 30 * images.mean((2, 3))[:, :2]

    images = torch.full((40, 3, 8, 8), 0.5)
    images[:, 0] += torch.linspace(0.01, 0.1, 40).view(-1, 1, 1)
    data = load_data((images, torch.zeros(40).long()), classes=["red", "green"])
    fitted = UniversalPatch(share=0.25, steps=8, batch_size=10).fit(Colours(), data)
    assert fitted.found is not None
    assert fitted.found.deltas.shape == (1, 3, 4, 4)
    assert fitted.found.deltas[0, 0].max() < -0.4
    assert fitted.found.deltas[0, 1].min() > 0.4
    assert fitted.found.facts["missed"] < fitted.found.facts["missed by patterns"]
    batch = data.batch(range(9))
    again = Perturbation(str(fitted.found.save(tmp_path / "patch.safetensors")))
    assert again.budget is None
    assert torch.equal(
        again(Colours(), batch.images, batch.labels, [5] * 9), fitted(Colours(), batch.images, batch.labels, [5] * 9)
    )
    assert fitted.budget is not None
    moved = fitted(Colours(), batch.images, batch.labels)
    assert float(fitted.budget.norm.length(moved - batch.images).max()) == fitted.budget.eps == 0.25
    masks = batch.labels.view(-1, 1, 1).expand(-1, 8, 8)
    for one in (fitted, again):  # in a mask what it covers is ignored
        seen, truth = one.with_labels(Colours(), batch.images, masks)
        assert torch.equal(truth == IGNORE, (seen != batch.images).any(1))
        assert torch.equal(truth[truth != IGNORE], masks[truth != IGNORE])
    aimed = UniversalPatch(share=0.25, steps=4, batch_size=10, target="green").fit(Colours(), data)
    assert aimed.found is not None
    assert aimed.found.facts["goal"] == "towards 1"


def test_goals_by_hand() -> None:
    sure = torch.tensor([[9.0, 0.0], [0.0, 9.0]])
    values = nearness(sure.requires_grad_(), torch.tensor([0, 0]))
    assert float(values[0].detach()) == pytest.approx(np.log(0.75))  # is there already: pulls no more
    (slope,) = torch.autograd.grad(values.sum(), sure)
    assert torch.equal(slope[0], torch.zeros(2))
    assert bool((slope[1] != 0).all())
    goal = towards(1, counts=True)
    labels = torch.tensor([0, 1, 0])
    assert goal.failure(torch.tensor([1, 0, 0]), labels, labels).tolist() == [0, 0, 1]
    clean = torch.tensor([[[0, 1, 1, 2, 2]]])
    assert filled(clean, 1).tolist() == [[[0, 0, 2, 2, 2]]]
    assert filled(torch.ones(1, 1, 2).long(), 1).tolist() == [[[1, 1]]]
    missed = hide(1).failure(torch.tensor([[[0, 0, 1, 2, 0]]]), clean, clean)
    assert float(missed) == pytest.approx(0.9 * 1 / 2 + 0.1 * 1 / 3)
    shown = scene(torch.tensor([[0, 1, 255]]))
    assert float(shown.failure(torch.tensor([[[0, 0, 0]]]), torch.zeros(1, 1, 3).long(), clean)) == pytest.approx(0.5)


def test_portraits_tell_coarse_from_fine(tmp_path: Path) -> None:
    coarse, fine = torch.full((3, 16, 16), 0.1), draw("chessboard", (3, 16, 16), 1, 0) * 0.1
    assert spectrum(coarse)[0] == 1.0
    assert spectrum(fine)[-1] == pytest.approx(1.0)
    assert variation(coarse) == 0.0
    assert variation(fine) == pytest.approx(0.2)
    batch = pictures(30, 16).batch(range(30))
    said = portrait(fine, Exact(), batch, (batch.images + fine).clamp(0, 1))
    assert said["amplification"] == 5.0
    assert said["coarse"] == pytest.approx(0.0, abs=1e-6)
    answers = Exact()((batch.images + fine).clamp(0, 1)).argmax(1)
    assert said["dominant after"] == pytest.approx(float(torch.bincount(answers).max()) / 30)
    from PIL import Image

    file = save_picture(fine, tmp_path / "fine.png")
    assert np.asarray(Image.open(file)).shape == (256, 256, 3)
    assert picture(fine)[0, 0].tolist() == [255, 255, 255]
    assert picture(fine)[0, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("universal:eps=8", "write eps=8/255"),
        ("universal:steps=0", "at least 1"),
        ("universal:images=1", "at least 2"),
        ("universal:tile=0", "a side in pixels"),
        ("universal:target=a,hide=b", "three aims"),
        ("universal_patch:share=2", "share=2"),
        ("universal_deepfool:rounds=0", "rounds=0"),
        ("universal_deepfool:images=1", "at least 2"),
        ("universal_deepfool:fooled=2", "at most 1"),
        ("universal_deepfool:fooled=0", "above 0"),
        ("universal_patch:place=left", "one of anywhere"),
        ("pattern:form=zigzag", "one of chessboard"),
        ("perturbation:x,eps=3", "write eps=3/255"),
    ],
)
def test_specs_that_make_no_sense(spec: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        threat(spec)
