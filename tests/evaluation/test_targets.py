"""Targets of attacks that move pixels: what is judged are the labels, moved, and never the targets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import vallum
from vallum.defences.base import surfaces_of
from vallum.evaluation.measure import attack, targets
from vallum.images import IGNORE, Batch, Draws


class Pixels(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * 3


def batch(labels: Tensor) -> Batch:
    images = torch.rand(len(labels), 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return Batch(images, labels, torch.arange(len(labels)), [str(i) for i in range(len(labels))])


@pytest.mark.parametrize("shape", [(6,), (6, 12, 12)])
def test_targets_are_other_classes_and_can_be_taken_back(shape: tuple[int, ...]) -> None:
    labels, draws = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(0)), Draws(0, range(6))
    if len(shape) == 3:
        labels[:, :2] = IGNORE
    aims = targets(labels, 5, draws)
    known = labels != IGNORE
    assert bool((aims != labels)[known].all())
    assert torch.equal(aims[~known], labels[~known])
    assert torch.equal(targets(aims, 5, draws, back=True), labels)


def test_the_truth_of_a_targeted_patch_is_the_mask_but_for_what_it_covers() -> None:
    model = vallum.load_model(Pixels(), task="segment", classes=3).eval()
    labels = torch.randint(0, 3, (4, 12, 12), generator=torch.Generator().manual_seed(0))
    threat = vallum.threat("patch:size=0.11,steps=2,targeted=true")
    found, truth, _ = attack(threat, surfaces_of(model)[0], batch(labels), 0)
    covered = truth == IGNORE
    assert covered.flatten(1).sum(1).tolist() == [9] * 4
    assert torch.equal(truth[~covered], labels[~covered])
    assert not bool((found != batch(labels).images).any(1)[~covered].any())


def test_what_a_chain_moves_before_a_targeted_attack_is_judged_by_its_labels() -> None:
    model = vallum.load_model(Pixels(), task="segment", classes=3).eval()
    labels = torch.randint(0, 3, (4, 12, 12), generator=torch.Generator().manual_seed(0))
    whole = batch(labels)
    threat = vallum.threat("elastic:3+pgd:eps=0.01,steps=2,targeted=true")
    truth = attack(threat, surfaces_of(model)[0], whole, 0)[1]
    wanted = vallum.threat("elastic:3").with_labels(model, whole.images, labels, whole.keys)[1]
    assert torch.equal(truth, wanted)
