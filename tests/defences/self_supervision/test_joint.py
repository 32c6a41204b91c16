"""Network and heads that learn together."""

from __future__ import annotations

import pytest
import torch
from repair_toys import Suns, network

from vallum.defences import Context, JointSelfSupervision, SelfSupervised
from vallum.errors import UserError
from vallum.threats import PGD
from vallum.threats.losses import cross_entropy

TASKS = "rotation(hidden=16)+inpainting(width=8)"


def test_the_loss_is_the_sum_of_what_it_says() -> None:
    made = JointSelfSupervision(tasks=TASKS, joint=0.3, repaired=0.5, repair_steps=2, eps=4 / 255, attack_steps=2)
    batch = Suns(12).batch(range(12))
    model = made.around(network(), batch.images).train()
    assert isinstance(model, SelfSupervised)
    said = made.step(model, batch, Context(seed=1))
    tasks = (said["rotation_loss"] + said["inpainting_loss"]) / 2
    whole = said["cross_entropy"] + 0.3 * tasks + 0.5 * said["repaired_cross_entropy"]
    assert torch.allclose(said["loss"], whole)
    said["loss"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    # With the tasks alone the network still learns: heads are not all that is trained.
    model.zero_grad()
    (said["rotation_loss"].detach() * 0 + made.step(model, batch, Context(seed=1))["rotation_loss"]).backward()
    assert bool(next(model.bare.parameters()).grad.any())  # type: ignore[union-attr]


def test_without_tasks_it_is_adversarial_training() -> None:
    batch = Suns(12).batch(range(12))
    made = JointSelfSupervision(tasks=TASKS, joint=0.0, eps=4 / 255, attack_steps=2)
    model = made.around(network(), batch.images).train()
    said = made.step(model, batch, Context(seed=1))
    seed = Context(seed=1).seed_of_epoch("self-supervision")
    plain = network()
    hard = PGD(4 / 255, steps=2, early_stop=False, seed=seed)(plain, batch.images, batch.labels, batch.keys)
    assert torch.allclose(said["loss"], cross_entropy(plain.train()(hard), batch.labels).mean(), atol=1e-6)


def test_only_pictures_move_its_statistics_and_not_their_views() -> None:
    batch = Suns(12).batch(range(12))
    made = JointSelfSupervision(tasks=TASKS, adversarial=0.0, repaired=1.0)
    model = made.around(network(), batch.images).train()
    alone = network().train()
    made.step(model, batch, Context(seed=1))
    alone(batch.images)
    mine, its = dict(model.bare.named_buffers()), dict(alone.named_buffers())
    assert all(torch.allclose(mine[name], its[name]) for name in its)


def test_mistakes_are_told() -> None:
    for wrong in ({"joint": -1.0}, {"repaired": -0.1}, {"repair_steps": 0}):
        with pytest.raises(UserError):
            JointSelfSupervision(**wrong)  # type: ignore[arg-type]
