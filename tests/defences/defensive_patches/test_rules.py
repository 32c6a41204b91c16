"""Rules that use patches without a label: what they answer, worked out image by image, and how they are attacked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from patch_toys import CLASSES, SIZE, toy_data, world

import vallum
from vallum.defences.base import surfaces_of
from vallum.defences.defensive_patches import PatchSet, Ring
from vallum.defences.defensive_patches.rules import Diagonal, TwoPass
from vallum.errors import UserError
from vallum.models import Model
from vallum.threats import PGD

MASK = Ring(outer=14, inner=10).mask(SIZE, SIZE)
PATCHES = PatchSet(
    torch.rand(len(CLASSES), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)), MASK, CLASSES, (SIZE, SIZE)
)


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_the_diagonal_rule_tries_every_patch(toy_nets: list[Model], at_once: int) -> None:
    images, rule = world(10)[0], Diagonal(toy_nets[0], PATCHES)
    rule.at_once = at_once
    answers = rule(images).argmax(1)
    for row, image in enumerate(images):
        sure = [
            toy_nets[0](PATCHES.lay(image[None], torch.tensor([k]))).log_softmax(1)[0, k].item()
            for k in range(len(CLASSES))
        ]
        assert rule(image[None])[0].tolist() == pytest.approx(sure, abs=1e-4)
        assert int(answers[row]) == sure.index(max(sure))


def test_two_passes_lay_on_what_the_first_has_seen(toy_nets: list[Model]) -> None:
    images, rule = world(30)[0], TwoPass(toy_nets[0], PATCHES)
    first = toy_nets[0](images).argmax(1)
    assert torch.allclose(rule(images), toy_nets[0](PATCHES.lay(images, first)))


@pytest.mark.parametrize("made", [Diagonal, TwoPass])
def test_they_are_attacked_as_defences_and_fall(made: type, toy_nets: list[Model]) -> None:
    batch, rule = toy_data(24).batch(range(24)), made(toy_nets[0], PATCHES)
    names = [surface.name for surface in surfaces_of(rule)]
    assert {"direct", "transfer", "black-box"} <= set(names)
    assert ("both passes" in names) == (made is TwoPass)
    left = torch.ones(24, dtype=torch.bool)
    for surface in surfaces_of(rule):
        threat = surface.here(PGD(0.3, steps=10))
        assert threat is not None
        if surface.name != "black-box":
            found = threat(surface.through, batch.images, batch.labels, batch.keys)
            left &= rule(found).argmax(1) == batch.labels
    assert int(left.sum()) <= 2


def test_an_attack_on_both_passes_reaches_the_choice(toy_nets: list[Model]) -> None:
    """Where the second pass says the same whatever it is shown but for the patch, only the first can be led astray."""

    class Reads(Model):
        classes = CLASSES

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            worn = (images[:, :, MASK > 0].flatten(1)[:, None] - RING[None]).abs().mean(2)  # (N, C)
            return torch.where((worn.amin(1) < 1e-3)[:, None], -100 * worn.detach(), toy_nets[0](images))

    RING = PATCHES.patches[:, :, MASK > 0].flatten(1)  # noqa: N806
    batch, rule = toy_data(24).batch(range(24)), TwoPass(Reads().eval(), PATCHES)
    attack = PGD(0.3, steps=10)
    stand_in = next(surface.through for surface in surfaces_of(rule) if surface.name == "both passes")
    for through, falls in ((rule, False), (stand_in, True)):
        found = attack(through, batch.images, batch.labels, batch.keys)
        assert bool(((rule(found).argmax(1) != batch.labels).double().mean() > 0.5) == falls)


def test_one_patch_for_all_is_no_rule(toy_nets: list[Model]) -> None:
    with pytest.raises(UserError, match="one patch for all classes"):
        Diagonal(toy_nets[0], PatchSet(PATCHES.patches[:1], MASK, CLASSES, (SIZE, SIZE)))


def test_threats_that_are_fitted_meet_them(toy_nets: list[Model], tmp_path: Path) -> None:
    rules = {"diagonal": Diagonal(toy_nets[0], PATCHES), "two": TwoPass(toy_nets[0], PATCHES)}
    attack = "universal:eps=16/255,steps=1,images=4,targets=0"
    run = vallum.evaluate(rules, toy_data(12), attack, n=4, undefended=False, out=tmp_path, progress=False)
    for name, rule in rules.items():
        fitted = {found["surface"] for found in run.perturbations if found["model"] == name}
        assert fitted == {surface.name for surface in surfaces_of(rule, thorough=False)} - {"black-box"}
