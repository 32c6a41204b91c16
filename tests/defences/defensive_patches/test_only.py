"""Attacks on the object alone and on the patch alone: nothing else moves, and nothing is lost by it."""

from __future__ import annotations

import pytest
import torch
from patch_toys import SIZE, toy_data

from vallum.defences.defensive_patches import Ring
from vallum.defences.defensive_patches.only import Within, attacked
from vallum.models import Model
from vallum.threats import PGD, threat
from vallum.threats.losses import loss_named

FREE = Ring(outer=14, inner=10).mask(SIZE, SIZE)


@pytest.mark.parametrize("spec", ["pgd:eps=0.1,steps=5", "strong:eps=0.05,effort=0.2", "square:eps=0.1,queries=30",
                                  "pgd:eps=1,norm=2,steps=5"])  # fmt: skip
def test_only_what_is_free_moves(spec: str, toy_nets: list[Model]) -> None:
    batch = toy_data(24).batch(range(24))
    for free in (FREE, 1 - FREE):
        one = Within(threat(spec), free, "object")
        found = one(toy_nets[0], batch.images, batch.labels, batch.keys)
        moved = (found != batch.images).any(1)
        assert not bool(moved[:, free == 0].any())
        assert bool(moved.any())
        assert one.budget is not None
        assert bool((one.budget.norm.length(found - batch.images) <= one.budget.eps * (1 + 1e-4)).all())


def test_it_climbs_as_a_loop_does_that_masks_its_gradient(toy_nets: list[Model]) -> None:
    batch, eps, steps = toy_data(24).batch(range(24)), 0.1, 6
    attack = PGD(eps, steps=steps, random_start=False, early_stop=False)
    best, worst = batch.images.clone(), torch.full((24,), -torch.inf)
    delta = torch.zeros_like(best)
    for step in range(steps + 1):
        point = (batch.images + delta).clamp(0, 1).requires_grad_()
        logits = toy_nets[0](point)
        losses = loss_named("cross_entropy")(logits, batch.labels)
        value = losses.detach() + 1000 * (logits.argmax(1) != batch.labels)
        better = value > worst
        best[better], worst[better] = point.detach()[better], value[better]
        if step < steps:
            gradient = torch.autograd.grad(losses.sum(), point)[0] * FREE
            delta = (delta + 2.5 * eps / steps * gradient.sign()).clamp(-eps, eps)
            delta = (batch.images + delta).clamp(0, 1) - batch.images
    found = attacked(attack, toy_nets[0], batch.images, batch.labels, batch.keys, FREE[None, None])
    assert torch.allclose(found, best, atol=1e-6)


def test_images_that_have_fallen_may_leave(toy_nets: list[Model]) -> None:
    """An attack that drops them asks about the others alone, and they are still told apart."""
    batch = toy_data(60).batch(range(60))

    def left(early_stop: bool) -> torch.Tensor:
        attack = PGD(0.12, steps=8, random_start=False, early_stop=early_stop)
        found = attacked(attack, toy_nets[0], batch.images, batch.labels, batch.keys, FREE[None, None])
        return toy_nets[0](found).argmax(1) == batch.labels

    assert 0 < int(left(True).sum()) < 60
    assert torch.equal(left(True), left(False))


def test_it_says_what_it_is() -> None:
    one = Within(threat("pgd:eps=4/255"), FREE, "patch")
    assert one.spec == "pgd:eps=4/255 on the patch only"
    assert one.fingerprint != Within(threat("pgd:eps=4/255"), 1 - FREE, "patch").fingerprint
    assert (one.kind, one.needs_gradient, one.targeted) == ("attack", True, False)
