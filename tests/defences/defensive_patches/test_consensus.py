"""The published merge of pixel Grams, beside what it computes and what it amounts to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from test_laying import RING

from vallum.defences.defensive_patches.consensus import gram_distance, merged_by_gram, merged_by_mean
from vallum.images import Draws

MASK = F.pad(RING, (1, 1, 1, 1))


def test_the_distance_is_that_of_the_grams_themselves() -> None:
    one, other = (Draws(seed, range(3)).normal(3, 40, purpose="any") for seed in (0, 1))
    inside = torch.arange(40) % 4 == 0
    grams = [x[..., inside].mT @ x for x in (one, other)]  # (N, R, P)
    expected = (grams[0] - grams[1]).double().square().mean()
    torch.testing.assert_close(gram_distance(one, other, inside), expected, rtol=1e-5, atol=0)


def test_its_gradient_is_too() -> None:
    one, other = (Draws(seed, range(2)).normal(3, 12, purpose="any").double() for seed in (0, 1))
    one.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gram_distance(x, other, torch.arange(12) < 5), one)


def test_a_merge_by_gram_is_a_merge_by_mean() -> None:
    """Random patches of three models, smooth images, a hundred steps from a start far from both."""
    draws = Draws(0, range(3))
    copies = draws.uniform(2, 3, 32, 32, purpose="copies")  # (K, C, 3, H, W)
    start = Draws(1, range(2)).uniform(3, 32, 32, purpose="start")
    smooth = Draws(2, range(32)).uniform(3, 4, 4, purpose="images")
    images = F.interpolate(smooth, size=(32, 32), mode="bilinear", align_corners=False)
    scenes = [(images, torch.arange(32) % 2)] * 120
    mean = merged_by_mean(copies)
    merged = merged_by_gram(copies, MASK, scenes, lr=0.03, start=start)

    def apart(patches: torch.Tensor) -> float:
        """On the scale of [-1, 1]."""
        return float(2 * (patches - mean).abs()[..., MASK > 0].mean())

    assert apart(start) > 0.3
    assert apart(merged) < 0.03
    assert torch.equal(merged[..., MASK == 0], start[..., MASK == 0].clamp(0, 1))


def test_patches_that_agree_stay_as_they_are() -> None:
    same = Draws(0, [0]).uniform(1, 3, 32, 32, purpose="copies").expand(3, -1, -1, -1, -1)
    images = Draws(2, range(4)).uniform(3, 32, 32, purpose="images")
    merged = merged_by_gram(same, MASK, [(images, torch.zeros(4, dtype=torch.int64))] * 5, start=same[0])
    torch.testing.assert_close(merged, same[0], atol=1e-6, rtol=0)
