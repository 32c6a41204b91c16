"""Adversarial patches against the optimum of linear models, wherever they lie."""

from __future__ import annotations

import pytest
import torch
from threat_oracles import Exact, ExactPixels, Linear, drawn
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.threats import Patch
from vallum.threats.losses import margin
from vallum.threats.placement import Area

IMAGES = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(4, dtype=torch.long)


def linear() -> tuple[Linear, Tensor]:
    model = Linear(drawn(2, 432))
    return model, (model.weight[1] - model.weight[0]).detach().view(3, 12, 12)


def gains(images: Tensor, weight: Tensor, side: int) -> Tensor:
    """(N, H', W'): by how much the margin grows with the best patch of this side at each place."""
    best = torch.where(weight > 0, weight * (1 - images), -weight * images)  # each value to the end that helps
    return best.sum(1).unfold(1, side, 1).unfold(2, side, 1).sum((3, 4))


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("position", ["centre", "random"])
def test_each_pixel_goes_to_the_end_that_helps_most(position: str, targeted: bool) -> None:
    model, weight = linear()
    attack = Patch(size=0.11, position=position, steps=30, targeted=targeted, early_stop=False)  # 3 by 3 pixels
    found = attack(model, IMAGES, LABELS + targeted)
    gain = (margin(model(found), LABELS) - margin(model(IMAGES), LABELS)).detach()
    changed = (found != IMAGES).any(1)
    for i in range(4):
        rows, columns = changed[i].nonzero().unbind(1)
        top, left = int(rows.min()), int(columns.min())
        assert (int(rows.max()) - top, int(columns.max()) - left) == (2, 2)
        wanted = gains(IMAGES, weight, 3)[i, top, left]
        assert float(gain[i]) == pytest.approx(float(wanted), rel=1e-4)


def test_sensitive_places_are_those_of_the_largest_gradient_and_further_ones_are_others() -> None:
    model, weight = linear()
    where = weight.abs().sum(0).unfold(0, 3, 1).unfold(1, 3, 1).sum((2, 3))
    top, left = divmod(int(where.argmax()), where.shape[1])
    found = Patch(size=0.11, position="sensitive", steps=20, early_stop=False)(model, IMAGES, LABELS)
    wanted = torch.zeros(12, 12, dtype=torch.bool)
    wanted[top : top + 3, left : left + 3] = True
    assert torch.equal((found != IMAGES).any(1).any(0), wanted)
    reached = [
        margin(
            model(Patch(0.11, position="sensitive", places=n, steps=20, early_stop=False)(model, IMAGES, LABELS)),
            LABELS,
        )
        for n in (1, 2, 5)
    ]
    assert bool((reached[0] <= reached[1]).all())
    assert bool((reached[1] <= reached[2]).all())
    assert bool((reached[0] < reached[2]).any())


def test_more_random_places_never_report_less() -> None:
    model, _ = linear()
    reached = [
        margin(
            model(Patch(0.11, position="random", places=n, steps=20, early_stop=False)(model, IMAGES, LABELS)), LABELS
        )
        for n in (1, 3, 9)
    ]
    assert bool((reached[0] <= reached[1]).all())
    assert bool((reached[1] <= reached[2]).all())
    assert bool((reached[0] < reached[2]).any())


def test_a_patch_made_for_jitter_does_better_at_placements_it_has_not_seen() -> None:
    colour = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)  # magenta, wherever it lies
    model = Linear(torch.stack([torch.zeros(432), colour.expand(3, 12, 12).flatten()]))
    jitter = {"size": 0.3, "position": "centre", "steps": 30, "shift": 2.0, "rotation": 20.0}
    trained = Patch(**jitter, samples=4)
    plain = Patch(**{**jitter, "steps": 1, "step_size": 1e-6})  # the same placements, colours left as drawn
    assert trained.jitters
    found, start = (attack(model, IMAGES, LABELS) for attack in (trained, plain))
    assert bool((margin(model(found), LABELS) > margin(model(start), LABELS) + 10).all())
    assert float(Area().length(found - IMAGES).max()) <= 0.3


def test_masks_are_ignored_where_the_patch_lies_and_nowhere_else() -> None:
    labels = ExactPixels()(IMAGES).argmax(1)
    attack = Patch(size=0.11, steps=3)
    found, masks = attack.with_labels(ExactPixels(), IMAGES, labels)
    assert torch.equal(found, attack(ExactPixels(), IMAGES, labels))
    assert (masks == IGNORE).flatten(1).sum(1).tolist() == [9] * 4
    assert torch.equal(masks[masks != IGNORE], labels[masks != IGNORE])
    assert not bool((found != IMAGES).any(1)[masks != IGNORE].any())
    assert attack.with_labels(Exact(), IMAGES, LABELS)[1].tolist() == [0] * 4


def test_mistakes() -> None:
    for wrong, says in (
        ({"size": 5}, "between 0 and 1"),
        ({"size": 0.1, "steps": 0}, "at least 1"),
        ({"size": 0.1, "scale": 0.5}, "scale is 1 or more"),
        ({"size": 0.1, "places": 2, "rotation": 5}, "one place"),
    ):
        with pytest.raises(UserError, match=says):
            Patch(**wrong)
