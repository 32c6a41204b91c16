"""The one loop: right gradients, the same patches again, and what each maker is there for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from patch_toys import CLASSES, SIZE, told, toy_data, toy_model, world
from torch import nn

import vallum
from vallum.data import load_data
from vallum.defences.defensive_patches import MAKERS, PatchSet, make_patches
from vallum.defences.defensive_patches.keeping import FILE
from vallum.defences.defensive_patches.make import SHEET
from vallum.defences.defensive_patches.makers import Selective, another, maker
from vallum.defences.defensive_patches.making import Making
from vallum.defences.defensive_patches.pictures import Pictures
from vallum.errors import UserError
from vallum.images import Draws
from vallum.models import Model, load_model

SPECS = {name: name for name in MAKERS} | {
    "dropped": "ensemble:drop=0.5",
    "logits": "ensemble:average=logits",
    "object": "minmax:where=object",
    "gram": "consensus:merge=gram,merge_steps=3,times=2",
}


def quickly(models: Any, spec: str, **given: Any) -> PatchSet:
    several = not maker(spec).single
    settings: dict[str, Any] = {
        "shape": "ring:outer=14,inner=10", "steps": 8, "batch_size": 12, "looks": 2, "watch": 32, "quiet": True,
        "start": "noise",
    }  # fmt: skip
    return make_patches(models if several else models[0], toy_data(), spec, **(settings | given))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_maker_makes_better_patches_than_it_began_with(spec: str, toy_nets: list[Model]) -> None:
    patches = quickly(toy_nets, spec, steps=16, schedule="constant", looks=16, watch=32, batch_size=16)
    losses = [row["loss"] for row in patches.made["history"]]
    assert losses[-1] < losses[0]
    assert patches.made["best_step"] == 1 + int(np.argmin(losses))
    assert len(patches) == (1 if "universal" in spec else len(CLASSES))
    assert patches.image_size == (SIZE, SIZE)
    assert bool((patches.patches[..., patches.mask == 0] == 0).all())


@pytest.mark.parametrize("spec", ["ensemble:drop=0.5", "selective:eps=1/255,attack_steps=1", "consensus:times=3"])
def test_a_search_that_was_killed_comes_to_the_same_patches(
    spec: str, toy_nets: list[Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"start": "noise" if "selective" in spec else None, "scenes": "plain:rotation=10,noise=0.1"}
    whole = quickly(toy_nets, spec, **given)
    step = Making._step

    def killed(self: Making) -> float:
        if self.state.step == 5 and self.maker.spec == spec:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Making, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        quickly(toy_nets, spec, out=tmp_path, **given)
    monkeypatch.setattr(Making, "_step", step)
    resumed = quickly(toy_nets, spec, out=tmp_path, **given)
    assert torch.equal(resumed.patches, whole.patches)
    assert resumed.made["history"] == whole.made["history"]
    assert resumed.made["passes"] == whole.made["passes"]
    again = quickly(toy_nets, spec, out=tmp_path, **given)  # finished: nothing is left to do
    assert torch.equal(again.patches, whole.patches)
    assert torch.equal(PatchSet.load(tmp_path).patches, whole.patches)
    assert (tmp_path / SHEET).is_file()
    with pytest.raises(UserError, match="settings"):
        quickly(toy_nets, spec, out=tmp_path, **given, seed=1)
    other = quickly(toy_nets, spec, out=tmp_path, **given, seed=1, fresh=True)
    assert not torch.equal(other.patches, whole.patches)


def test_a_damaged_search_is_refused(toy_nets: list[Model], tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no search")
    with pytest.raises(UserError, match="--fresh"):
        quickly(toy_nets, "ensemble", out=tmp_path)


@pytest.mark.parametrize("spec", ["ensemble", "ensemble:average=logits", "selective:wrong=0.7,alone=0.4"])
@pytest.mark.parametrize("split", [1, 3, 24])
def test_the_gradient_is_that_of_the_whole_loss_however_it_is_split(
    spec: str, split: int, toy_nets: list[Model]
) -> None:
    """One graph over both models and all views, batch by batch, beside the loop's model by model."""
    making = search(toy_nets, spec)
    batch = making.pictures.batch(making.stream[0])
    draws = Draws(0, batch.keys, "patches/step 0")
    patches = making.colours.show(making.state.numbers)[0].detach().requires_grad_()
    total = torch.zeros(())
    for rows in torch.arange(len(batch)).split(split):
        own = draws.take(rows)
        views = making.maker.views(patches, batch.images[rows], batch.labels[rows], own, making.lay)
        for view in views:
            logits = [model(view.seen) for model in toy_nets]
            logits = [torch.stack(logits).mean(0)] if "logits" in spec else logits
            total = total + view.weight * sum(view.losses(one).sum() for one in logits) / len(logits) / len(batch)
    (expected,) = torch.autograd.grad(total, patches)

    leaf = patches.detach().clone().requires_grad_()
    loss = making._back(making._views(leaf, batch, draws), list(making.models.values()), draws)
    assert leaf.grad is not None
    assert loss == pytest.approx(float(total.detach()), rel=1e-4)
    torch.testing.assert_close(leaf.grad, expected, atol=1e-7, rtol=1e-3)
    assert bool((leaf.grad[..., making.mask == 0] == 0).all())


def search(models: list[Model], spec: str, **given: Any) -> Making:
    from vallum.defences.defensive_patches.colours import Box
    from vallum.defences.defensive_patches.scenes import Scenes
    from vallum.defences.defensive_patches.settings import Settings
    from vallum.defences.defensive_patches.shapes import Ring

    pictures = Pictures(toy_data(), 4000, 0, torch.device("cpu"))
    mask = Ring(outer=14, inner=10).mask(SIZE, SIZE)[1:15, 1:15]
    named: dict[str, nn.Module] = {str(number): model for number, model in enumerate(models)}
    settings = Settings(steps=4, batch_size=24)
    return Making(named, pictures, maker(spec), mask, 1, Box(), Scenes(**given), settings)


def test_every_class_comes_as_often_and_every_image_of_it_too() -> None:
    pictures = Pictures(toy_data(100), 80, 0, torch.device("cpu"))
    assert not set(pictures.fit) & set(pictures.select)
    label = {index: one for one, own in enumerate(pictures.by_class) for index in own.tolist()}
    batches = pictures.stream(Draws(0, [0]), 10, 60)
    for upto in (1, 7, 60):
        seen = Counter(label[index] for batch in batches[:upto] for index in batch)
        assert max(seen.values()) - min(seen.values()) <= 1 or upto == 1
    each = Counter(index for batch in batches for index in batch)
    for own in pictures.by_class:
        assert max(each[i] for i in own.tolist()) - min(each[i] for i in own.tolist()) <= 1


def test_a_class_without_an_image_is_told_by_name() -> None:
    images, labels = world(60)
    labels[labels == 3] = 2
    with pytest.raises(UserError, match="'d'"):
        make_patches(toy_model(), load_data((images, labels), classes=CLASSES), steps=1, quiet=True)


def test_another_class_is_never_ones_own_and_any_other() -> None:
    labels = torch.arange(6).repeat(50)
    other = another(labels, 6, Draws(0, range(300)))
    assert not bool((other == labels).any())
    assert {(a, b) for a, b in zip(labels.tolist(), other.tolist(), strict=True)} == {
        (a, b) for a in range(6) for b in range(6) if a != b
    }


def test_the_inner_attack_touches_only_what_it_may(toy_nets: list[Model]) -> None:
    eps = 4 / 255
    for where in ("all", "object", "patch"):
        making = search(toy_nets, f"minmax:where={where}", rotation=20)
        batch = making.pictures.batch(making.stream[0])
        draws = Draws(0, batch.keys, "patches/step 0")
        (view,) = making._views(making.colours.show(making.state.numbers)[0], batch, draws)
        moved = making.maker.attacked(toy_nets[0], view, draws) - view.seen.detach()
        there = view.there.detach().expand_as(moved)
        assert float(moved.abs().max()) <= eps + 1e-6
        assert bool((moved[there < 1] != 0).any()) == (where != "patch") or where == "patch"
        if where == "object":
            assert bool((moved[there == 1] == 0).all())
        if where == "patch":
            assert bool((moved[there == 0] == 0).all())
        before, after = (F.cross_entropy(toy_nets[0](x), batch.labels) for x in (view.seen, view.seen + moved))
        assert float(after.detach()) > float(before.detach())


@pytest.fixture(scope="module")
def judged() -> dict[str, dict[str, float]]:
    """Own class told, passed off as another, and patch alone, of patches on a model that never saw a frame."""
    model = toy_model()
    images, labels = world(400, seed=3)
    other = another(labels, len(CLASSES), Draws(0, range(400)))
    empty = torch.full_like(images, 0.35)
    found = {}
    for spec in ("ensemble", *(f"selective:wrong={b},alone=0" for b in (0.1, 1, 10)), "universal"):
        start = "noise" if spec == "universal" else "prior"
        patches = make_patches(
            model,
            toy_data(),
            spec,
            shape="ring:outer=16,inner=8",
            start=start,
            steps=100,
            batch_size=32,
            looks=2,
            quiet=True,
        )
        found[spec] = {
            "own": told(model, patches.lay(images, labels), labels),
            "hijacked": told(model, patches.lay(images, other), other),
            "alone": told(model, patches.lay(empty, labels), labels),
        }
    return found


def test_patches_print_the_label_unless_they_are_kept_from_it(judged: dict[str, dict[str, float]]) -> None:
    """Without a term for it a patch passes anything off as its class; the more the term weighs, the less it does."""
    hijacked = [rates["hijacked"] for spec, rates in judged.items() if spec != "universal"]
    assert hijacked[0] > 0.9
    assert hijacked == sorted(hijacked, reverse=True)
    assert hijacked[-1] < 0.1
    assert all(rates["own"] > 0.9 for spec, rates in judged.items() if "wrong=10" not in spec)
    assert judged["selective:wrong=10,alone=0"]["own"] < 0.9  # at that weight it is not worth having any more


def test_one_patch_for_all_tells_nothing_on_its_own(judged: dict[str, dict[str, float]]) -> None:
    chance = 1 / len(CLASSES)
    assert abs(judged["universal"]["alone"] - chance) < 0.1
    assert judged["universal"]["hijacked"] < chance
    assert judged["ensemble"]["alone"] > 0.9


@pytest.mark.parametrize("space", ["box:low=0.2,high=0.8", "print", "palette:levels=2", "pixels"])
def test_what_is_kept_is_in_gamut_and_as_fine_as_asked(space: str, toy_nets: list[Model]) -> None:
    from vallum.defences.defensive_patches.colours import PRINTED

    patches = quickly(toy_nets, "ensemble", colours=space, fineness=3, scenes="plain:rotation=10", steps=4)
    assert patches.patches.shape == (len(CLASSES), 3, 42, 42)
    inside = patches.patches[:, :, patches.mask > 0]
    ends = {"box": [(0.2, 0.8)] * 3, "pixels": [(0, 1)] * 3}.get(space.partition(":")[0], PRINTED)
    for channel, (low, high) in enumerate(ends):
        assert low - 1e-6 <= float(inside[:, channel].min()) < float(inside[:, channel].max()) <= high + 1e-6
    if space.startswith("palette"):
        assert len(inside.movedim(1, -1).reshape(-1, 3).unique(dim=0)) <= 8


def test_a_printer_is_looked_through(toy_nets: list[Model]) -> None:
    """A printer that knows no colour leaves nothing to gain from colour: all channels get the same gradient."""

    def grey(colours: torch.Tensor) -> torch.Tensor:
        return colours.mean(1, keepdim=True).expand_as(colours)

    making = search(toy_nets, "ensemble")
    making.printer = grey
    leaf = making.colours.show(making.state.numbers)[0].detach().requires_grad_()
    batch = making.pictures.batch(making.stream[0])
    draws = Draws(0, batch.keys, "any")
    making._back(making._views(leaf, batch, draws), toy_nets, draws)
    assert leaf.grad is not None
    assert float(leaf.grad.abs().max()) > 0
    torch.testing.assert_close(leaf.grad[:, 0], leaf.grad[:, 2])
    printed = quickly(toy_nets, "ensemble", printer=grey, steps=2)
    assert printed.made["printer"] != "none"


def test_patches_go_on_from_patches(toy_nets: list[Model], tmp_path: Path) -> None:
    first = quickly(toy_nets, "ensemble", steps=20, out=tmp_path)
    further = quickly(toy_nets, "ensemble", start=str(tmp_path), steps=1, lr=1e-6)
    assert float((further.patches - first.patches).abs().max()) <= 1.01 / 255
    with pytest.raises(UserError, match="start from"):
        quickly(toy_nets, "universal", start=first)


@pytest.mark.parametrize(
    ("spec", "given", "words"),
    [
        ("selective:wrong=-1", {}, "negative"),
        ("ensemble:drop=1", {}, "below 1"),
        ("universal", {"start": "prior"}, "prior"),
        ("consensus:merge=gram", {"fineness": 2}, "Grams"),
        ("ensemble", {"steps": 0}, "at least 1"),
        ("ensemble", {"stepps": 3}, "did you mean steps"),
        ("ensemble", {"fineness": 0}, "fineness"),
        ("ensemble", {"shape": "ring:outer=14,inner=14"}, "smaller than the frame"),
    ],
)
def test_what_cannot_be_made_is_refused(spec: str, given: dict[str, Any], words: str, toy_nets: list[Model]) -> None:
    with pytest.raises(UserError, match=words):
        quickly(toy_nets, spec, **given)


def test_one_model_where_one_is_served_and_a_gradient_where_it_is_needed(toy_nets: list[Model]) -> None:
    with pytest.raises(UserError, match="serves one"):
        make_patches(toy_nets, toy_data(), "unadversarial", quiet=True)
    blind = load_model(lambda images: toy_nets[0](images).detach(), classes=CLASSES)
    with pytest.raises(UserError, match="gradient"):
        make_patches(blind, toy_data(), shape="ring:outer=14,inner=10", steps=1, quiet=True)
    learning = load_model(nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(768, 6))).train()
    with pytest.raises(UserError, match="training mode"):
        make_patches(learning, toy_data(), shape="ring:outer=14,inner=10", quiet=True)


def test_the_models_are_left_as_they_were(toy_nets: list[Model]) -> None:
    before = [parameter.detach().clone() for model in toy_nets for parameter in model.parameters()]
    quickly(toy_nets, "ensemble", steps=2)
    after = [parameter for model in toy_nets for parameter in model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(parameter.requires_grad for parameter in after)


def test_it_is_at_hand_in_the_package() -> None:
    assert vallum.make_patches is make_patches
    assert Selective().spec == "selective"
