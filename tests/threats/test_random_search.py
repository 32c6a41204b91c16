"""Random search where its squares of colour can be optimal, and what it does with its queries."""

from __future__ import annotations

import pytest
import torch
from threat_oracles import Exact, Linear
from torch import Tensor, nn

from vallum.threats import RandomSearch
from vallum.threats.losses import fallen, margin


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.1), ("2", 1.0), ("1", 8.0)])
def test_finds_the_optimum_where_it_is_one_colour(norm: str, eps: float) -> None:
    images, labels = torch.full((6, 3, 8, 8), 0.5), torch.zeros(6, dtype=torch.long)
    weight = torch.zeros(2, 3, 8, 8)
    weight[1] = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)
    model = Linear(weight.flatten(1))
    found = RandomSearch(eps=eps, norm=norm, queries=1000, early_stop=False)(model, images, labels)
    gain = (margin(model(found), labels) - margin(model(images), labels)).detach()
    best = {"inf": eps * 192, "2": eps * 192**0.5, "1": eps}[norm]
    torch.testing.assert_close(gain, torch.full((6,), best), rtol=1e-4, atol=0)


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.asked, self.losses = Exact(), list[int](), list[Tensor]()

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.asked.append(len(images))
        logits = self.model(images)
        self.losses.append(margin(logits, self.labels[: len(images)]))
        return logits


def test_it_looks_at_logits_alone_and_keeps_the_best_it_saw() -> None:
    model, images = Watched(), torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = model.labels = Exact()(images).argmax(1)
    attack = RandomSearch(eps=0.1, queries=40, early_stop=False)
    found = attack(model, images, labels)
    assert model.asked == [8] * 40 == [8] * int(attack.passes)
    assert torch.equal(margin(Exact()(found), labels), torch.stack(model.losses).amax(0))


def test_images_that_have_fallen_are_not_asked_about_again_and_more_queries_never_do_worse() -> None:
    images = torch.rand(24, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = Exact()(images).argmax(1)
    found = {}
    for stop in (True, False):
        model = Watched()
        model.labels = labels
        found[stop] = RandomSearch(eps=0.15, queries=40, early_stop=stop)(model, images, labels)
        if stop:
            assert model.asked == sorted(model.asked, reverse=True)
            assert model.asked[-1] < 24
    fell = [fallen(Exact()(found[stop]), labels, targeted=False) for stop in (True, False)]
    assert 0 < int(fell[0].sum()) < 24
    assert torch.equal(fell[0], fell[1])
