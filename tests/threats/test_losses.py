"""Losses against their formulas in NumPy; what counts as fallen; which candidate is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from threat_oracles import Linear

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats import threat
from vallum.threats.losses import fallen, loss_named
from vallum.threats.search import Best

LOGITS = torch.randn(4, 5, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.randint(0, 5, (4, 3, 6), generator=torch.Generator().manual_seed(1))


def by_hand(name: str, logits: np.ndarray, label: int) -> float:
    if name == "cross_entropy":
        return -float(log_softmax(logits)[label])
    return float(np.delete(logits, label).max() - logits[label])


@pytest.mark.parametrize("name", ["cross_entropy", "margin"])
def test_classifier(name: str) -> None:
    found = loss_named(name)(LOGITS[:, :, 0, 0], LABELS[:, 0, 0])
    wanted = [by_hand(name, LOGITS[i, :, 0, 0].numpy(), int(LABELS[i, 0, 0])) for i in range(4)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "margin"])
def test_segmenter_averages_over_the_pixels_that_have_a_label(name: str) -> None:
    labels = LABELS.clone()
    labels[0, 1] = IGNORE
    labels[1, :, 2:] = IGNORE
    labels[3] = IGNORE
    logits = LOGITS.clone().requires_grad_()
    found = loss_named(name)(logits, labels)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    ignored = (labels == IGNORE)[:, None].expand_as(gradient)
    assert not bool(gradient[ignored].any())
    assert bool(gradient[:3][~ignored[:3]].any())
    for i in range(4):
        at = [(y, x) for y in range(3) for x in range(6) if labels[i, y, x] != IGNORE]
        values = [by_hand(name, LOGITS[i, :, y, x].numpy(), int(labels[i, y, x])) for y, x in at]
        assert float(found[i].detach()) == pytest.approx(np.mean(values) if values else 0.0, rel=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "margin"])
def test_what_a_segmenter_says_of_ignored_pixels_counts_for_nothing_even_if_infinite(name: str) -> None:
    labels = LABELS.clone()
    labels[:, 0] = IGNORE
    wild = LOGITS.clone()
    wild[:, 1:, 0] = -torch.inf
    torch.testing.assert_close(loss_named(name)(wild, labels), loss_named(name)(LOGITS, labels))


def test_margin_is_positive_exactly_where_the_image_has_fallen() -> None:
    logits, labels = LOGITS.flatten(2)[:, :, 0], LABELS.flatten(1)[:, 0]
    assert torch.equal(loss_named("margin")(logits, labels) > 0, fallen(logits, labels, targeted=False))


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean margin"):
        loss_named("margins")


def test_fallen() -> None:
    logits = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    labels = torch.tensor([0, 0])
    assert fallen(logits, labels, targeted=False).tolist() == [False, True]
    assert fallen(logits, labels, targeted=True).tolist() == [True, False]


def test_a_mask_has_fallen_when_every_pixel_with_a_label_has() -> None:
    says = torch.tensor([[[0, 1]], [[1, 1]], [[1, 0]]])  # (3, 1, 2)
    logits = torch.nn.functional.one_hot(says, 2).movedim(-1, 1).float()
    labels = torch.tensor([[[0, 0]], [[0, 0]], [[0, IGNORE]]])
    assert fallen(logits, labels, targeted=False).tolist() == [False, True, True]
    assert fallen(logits, labels, targeted=True).tolist() == [False, False, False]


def test_best_keeps_a_fall_before_a_loss_and_then_the_higher_loss() -> None:
    images = torch.zeros(3, 1, 1, 1)
    best = Best(images, torch.zeros(3, dtype=torch.long), targeted=False)
    stands, falls = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    def offer(which: list[int], value: float, logits: torch.Tensor, loss: float) -> list[bool]:
        n = len(which)
        candidates = torch.full((n, 1, 1, 1), value)
        return best.offer(torch.tensor(which), candidates, logits.expand(n, 2), torch.full((n,), loss)).tolist()

    assert offer([0, 2], 0.1, stands, 5.0) == [True, True]
    assert offer([0, 1], 0.2, falls, -3.0) == [True, True]  # a fall, though its loss is lower
    assert offer([0, 2], 0.3, stands, 9.0) == [False, True]  # no way back
    assert offer([1, 0], 0.4, falls, -2.0) == [True, True]
    assert offer([1], 0.5, falls, -2.5) == [False]
    assert best.images.flatten().tolist() == pytest.approx([0.4, 0.4, 0.3])
    assert best.standing().tolist() == [2]
    assert not bool(images.any())


def test_best_compares_losses_at_their_own_precision() -> None:
    images = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    best = Best(images, torch.zeros(1, dtype=torch.long), targeted=False)
    logits, which = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([0])
    high = torch.tensor([0.7], dtype=torch.float64)  # which float32 rounds down
    assert best.offer(which, images + 1, logits, high).tolist() == [True]
    assert best.offer(which, images, logits, high - 1e-12).tolist() == [False]


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3, 1e6])
def test_cross_entropy_of_a_sure_answer_keeps_its_slope(scale: float) -> None:
    logits = torch.tensor([[5.0, 1.0, 0.9, -2.0], [0.0, 3.0, 2.0, 1.0]]) * scale
    labels = torch.tensor([0, 1])
    point = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss_named("cross_entropy")(point, labels).sum(), point)
    others = logits.double().scatter(1, labels[:, None], -torch.inf).softmax(1)
    wanted = others.scatter(1, labels[:, None], -1.0)  # p less the label, over 1 less the label's own p
    for one, true in zip(found.double(), wanted, strict=True):
        torch.testing.assert_close(one / one.abs().max(), true, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spec", [*(f"{name}:eps=0.3" for name in ("fgsm", "momentum", "pgd", "apgd")), "ddn"])
def test_a_classifier_that_is_ever_so_sure_is_attacked_as_one_that_is_not(spec: str) -> None:
    weight, images = torch.randn(3, 108, generator=torch.Generator().manual_seed(0)) / 8, torch.full((4, 3, 6, 6), 0.5)
    labels, bias = torch.zeros(4, dtype=torch.long), torch.tensor([3.0, 0.0, 0.0])
    for scale in (1.0, 1e5):
        model = Linear(weight * scale, bias * scale)
        assert bool((model(images).argmax(1) == 0).all())
        assert bool((model(threat(spec)(model, images, labels)).argmax(1) != 0).all()), scale
