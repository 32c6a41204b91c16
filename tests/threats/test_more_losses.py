"""Losses of attacks against their formulas written out, for two classes and up."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from threat_oracles import ExactPixels
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats import APGD, PGD, threat
from vallum.threats.losses import (
    GUIDED_LOSSES,
    LOSSES,
    LossName,
    SteadyLoss,
    at_progress,
    guided_loss_named,
    loss_named,
)
from vallum.threats.losses import margin as margin_of
from vallum.threats.segmentation_losses import balanced_cross_entropy, lost_overlap, wrong_share

Array = np.ndarray


def drawn(classes: int) -> tuple[Tensor, Tensor, Tensor]:
    logits = torch.randn(6, classes, generator=torch.Generator().manual_seed(classes), dtype=torch.float64) * 2
    return logits, torch.arange(6) % classes, (torch.arange(6) + 1) % classes


def margin(z: Array, y: int) -> float:
    return float(np.delete(z, y).max() - z[y])


def by_hand(name: str, z: Array, y: int) -> float:
    p, top, right = softmax(z), np.sort(z)[::-1], float(z.argmax() == y)
    ce, one = -log_softmax(z)[y], np.eye(len(z))[y]
    if name == "jensen_shannon":
        m = (p + one) / 2
        return float((np.sum(p * np.log(p / m)) + np.sum(one[y] * np.log(one[y] / m[y]))) / 2)
    return float(
        {
            "cross_entropy": ce,
            "margin": margin(z, y),
            "dlr": margin(z, y) / (top[0] - top[2]) if len(z) > 2 else margin(z, y),
            "clipped_cross_entropy": min(ce, -math.log(0.2)),
            "masked_cross_entropy": ce * right,
            "balanced_cross_entropy": ce * right,
            "segpgd_cross_entropy": ce * right,
            "cosine_cross_entropy": ce * (p @ one) / np.linalg.norm(p),
            "normalised_logit": -z[y] / np.linalg.norm(z) * right,
        }[name]
    )


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_losses(name: str, classes: int) -> None:
    logits, labels, _ = drawn(classes)
    wanted = [by_hand(name, z, int(y)) for z, y in zip(logits.numpy(), labels, strict=True)]
    np.testing.assert_allclose(loss_named(name)(logits, labels).numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(GUIDED_LOSSES))
@pytest.mark.parametrize("classes", [2, 3, 4, 7])
def test_losses_towards_a_class(name: str, classes: int) -> None:
    logits, labels, aims = drawn(classes)
    found = guided_loss_named(name)(logits, labels, aims)
    for i, z in enumerate(logits.numpy()):
        lead, top = z[aims[i]] - z[labels[i]], np.sort(z)[::-1]
        spread = top[0] - top[2:4].mean() if classes > 2 else 1.0
        wanted = {"margin": lead, "dlr": lead / spread, "cross_entropy": log_softmax(z)[aims[i]]}[name]
        assert float(found[i]) == pytest.approx(float(wanted), rel=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_dlr_is_positive_exactly_where_the_image_has_fallen_and_blind_to_scale(classes: int) -> None:
    logits, labels, _ = drawn(classes)
    dlr = loss_named("dlr")
    assert torch.equal(dlr(logits, labels) > 0, logits.argmax(1) != labels)
    if classes > 2:
        torch.testing.assert_close(dlr(logits * 7 + 3, labels), dlr(logits, labels))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_pixels_are_averaged_and_ignored_ones_get_no_gradient(name: str) -> None:
    logits = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    labels = logits.detach().argmax(1)
    labels[0, 0] = (labels[0, 0] + 1) % 4
    labels[1, :, 2:] = IGNORE
    labels[2] = IGNORE
    found = loss_named(name)(logits, labels)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert not bool(gradient[(labels == IGNORE)[:, None].expand_as(gradient)].any())
    for i in range(3):
        at = [(r, c) for r in range(2) for c in range(5) if labels[i, r, c] != IGNORE]
        values = [by_hand(name, logits.detach()[i, :, r, c].numpy(), int(labels[i, r, c])) for r, c in at]
        weights = [1.0 for _ in at]
        if name == "balanced_cross_entropy":
            there = [int(labels[i, r, c]) for r, c in at]
            weights = [len(at) / len(set(there)) / there.count(y) for y in there]
        wanted = np.mean(np.multiply(values, weights)) if at else 0.0
        assert float(found[i].detach()) == pytest.approx(float(wanted), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_segpgd_shifts_from_right_pixels_to_wrong_ones(progress: float) -> None:
    logits, labels, _ = drawn(4)
    ce = -torch.tensor(log_softmax(logits.numpy(), 1)).gather(1, labels[:, None])[:, 0]
    right = logits.argmax(1) == labels
    assert 0 < int(right.sum()) < len(right)
    weight = torch.where(right, 1 - progress / 2, progress / 2)  # lambda = (t - 1) / 2T
    torch.testing.assert_close(at_progress(loss_named("segpgd_cross_entropy"), progress)(logits, labels), ce * weight)
    torch.testing.assert_close(at_progress(loss_named("margin"), progress)(logits, labels), margin_of(logits, labels))


def test_every_loss_can_be_chosen_where_a_loss_can() -> None:
    assert set(get_args(LossName)) == set(LOSSES) == {*get_args(SteadyLoss), "segpgd_cross_entropy"}
    for name in LOSSES:
        assert PGD(eps=0.1, loss=name).spec == threat(f"pgd:eps=0.1,loss={name}").spec
    for name in get_args(SteadyLoss):
        assert APGD(eps=0.1, loss=name).spec == threat(f"apgd:eps=0.1,loss={name}").spec
    with pytest.raises(UserError, match="masked_cross_entropy leads away from a label"):
        PGD(eps=0.1, loss="masked_cross_entropy", targeted=True)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("attack", [PGD, APGD])
def test_each_loss_makes_more_pixels_wrong_and_none_is_lost_again(name: str, attack: type[PGD | APGD]) -> None:
    if attack is APGD and name == "segpgd_cross_entropy":
        return
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model, seen = ExactPixels(), list[Tensor]()
    labels = model(images).argmax(1)

    def watched(points: Tensor) -> Tensor:
        logits = model(points)
        seen.append(wrong_share(logits.detach(), labels))
        return logits

    found = attack(eps=0.15, steps=8, loss=name, early_stop=False)(watched, images, labels)
    share, most = wrong_share(model(found), labels), torch.stack(seen).amax(0)
    assert float(share.min()) > 0.3
    assert torch.equal(share, most)


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("kind", ["pgd:steps=8,", "apgd:steps=8,", "apgd_targeted:steps=8,", "square:queries=20,"])
def test_of_a_mask_the_point_is_kept_at_which_most_pixels_are_as_wanted(kind: str, targeted: bool) -> None:
    if kind.startswith("apgd_targeted"):
        options = "early_stop=false,loss=margin"
        if targeted:
            return
    else:
        options = f"early_stop=false,loss=cross_entropy,targeted={str(targeted).lower()}"
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model, shares = ExactPixels(), list[Tensor]()
    labels = model(images).argmax(1)
    labels = (labels + 1) % 3 if targeted else labels

    def wanted(logits: Tensor) -> Tensor:
        share = wrong_share(logits.detach(), labels)
        return 1 - share if targeted else share

    def watched(points: Tensor) -> Tensor:
        logits = model(points)
        shares.append(wanted(logits))
        return logits

    found = threat(f"{kind}eps=0.15,{options}")(watched, images, labels)
    torch.testing.assert_close(wanted(model(found)), torch.stack(shares).amax(0), rtol=0, atol=1e-6)


def test_share_of_wrong_pixels() -> None:
    logits = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]]]])  # says 0, 1, 1
    assert wrong_share(logits, torch.tensor([[[0, 0, 0]]])).tolist() == pytest.approx([2 / 3])
    assert wrong_share(logits, torch.tensor([[[0, 0, IGNORE]]])).tolist() == [0.5]
    assert wrong_share(logits, torch.tensor([[[IGNORE, IGNORE, IGNORE]]])).tolist() == [0.0]


def test_an_unknown_guided_loss_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean margin"):
        guided_loss_named("margins")


def test_lost_overlap_against_a_count_by_hand() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=draws)
    labels = torch.randint(0, 3, (3, 5, 6), generator=draws)
    labels[:, 0] = IGNORE
    labels[2] = IGNORE
    said = logits.argmax(1)
    expected = []
    for one, truth in zip(said, labels, strict=True):
        valid, overlaps = truth != IGNORE, []
        for label in truth[valid].unique():
            both, either = (one == label) & (truth == label), ((one == label) | (truth == label)) & valid
            overlaps.append(float(both.sum() / either.sum()))
        expected.append(1 - sum(overlaps) / max(len(overlaps), 1))
    assert lost_overlap(logits, labels).tolist() == pytest.approx(expected)


def test_lost_overlap_among_others_is_that_of_the_pixels_put_together() -> None:
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 5, 10), generator=draws)  # of four classes, one that these images do not hold
    logits = torch.randn(2, 4, 5, 10, generator=draws)
    shares = torch.tensor([0.6, 0.2, 0.0, 0.2])
    said, expected = logits.argmax(1), []
    for one, truth in zip(said, labels, strict=True):
        overlaps = []
        for label in (0, 1, 3):
            both, either = (one == label) & (truth == label), (one == label) | (truth == label)
            usual = 50 * float(shares[label])
            overlaps.append((float(both.sum()) + 0.4 * usual) / (float(either.sum()) + usual))
        expected.append(1 - sum(overlaps) / 3)
    assert lost_overlap(logits, labels, shares).tolist() == pytest.approx(expected)


def test_shares_weigh_a_pixel_by_how_rare_its_class_is() -> None:
    labels = torch.tensor([[[0, 0, 0, 1]]])
    logits = torch.zeros(1, 2, 1, 4).scatter(1, labels[:, None], 2.0).requires_grad_()
    shares = torch.tensor([0.9, 0.1])
    (slope,) = torch.autograd.grad(balanced_cross_entropy(logits, labels, shares).sum(), logits)
    sizes = slope.abs().sum(1)[0, 0]
    assert float(sizes[3] / sizes[0]) == pytest.approx(9.0)
    (alone,) = torch.autograd.grad(balanced_cross_entropy(logits, labels).sum(), logits)
    assert float(alone.abs().sum(1)[0, 0, 3] / alone.abs().sum(1)[0, 0, 0]) == pytest.approx(3.0)
