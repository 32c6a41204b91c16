"""Losses of attacks against their formulas written out, for two classes and up."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats.losses import GUIDED_LOSSES, LOSSES, guided_loss_named, loss_named
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


@pytest.mark.parametrize("name", [*sorted(LOSSES), "balanced"])
def test_pixels_are_averaged_and_ignored_ones_get_no_gradient(name: str) -> None:
    logits = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    labels = logits.detach().argmax(1)
    labels[0, 0] = (labels[0, 0] + 1) % 4
    labels[1, :, 2:] = IGNORE
    labels[2] = IGNORE
    loss = balanced_cross_entropy if name == "balanced" else loss_named(name)
    found = loss(logits, labels)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert not bool(gradient[(labels == IGNORE)[:, None].expand_as(gradient)].any())
    for i in range(3):
        at = [(r, c) for r in range(2) for c in range(5) if labels[i, r, c] != IGNORE]
        kind = "masked_cross_entropy" if name == "balanced" else name
        values = [by_hand(kind, logits.detach()[i, :, r, c].numpy(), int(labels[i, r, c])) for r, c in at]
        weights = [1.0 for _ in at]
        if name == "balanced":
            there = [int(labels[i, r, c]) for r, c in at]
            weights = [len(at) / len(set(there)) / there.count(y) for y in there]
        wanted = np.mean(np.multiply(values, weights)) if at else 0.0
        assert float(found[i].detach()) == pytest.approx(float(wanted), rel=1e-9, abs=1e-12)


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
