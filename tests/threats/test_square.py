"""Square where its squares can be optimal; its shapes; its query counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from threat_oracles import Exact, Linear
from torch import Tensor, nn

from vallum.images import Draws
from vallum.threats import Square
from vallum.threats.losses import margin
from vallum.threats.square_shapes import Proposals, inside, moved, pyramid_pair, pyramids, side_of, stripes


def test_finds_the_optimum_where_it_is_one_colour() -> None:
    images, labels = torch.full((4, 3, 8, 8), 0.5), torch.zeros(4, dtype=torch.long)
    weight = torch.zeros(2, 3, 8, 8)
    weight[1] = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)
    model = Linear(weight.flatten(1))
    found = Square(eps=0.1, queries=2000, early_stop=False)(model, images, labels)
    gain = (margin(model(found), labels) - margin(model(images), labels)).detach()
    assert float(gain.min()) >= 0.95 * 0.1 * 192, gain


def test_norm_2_uses_the_whole_radius_and_comes_near_a_smooth_optimum() -> None:
    images, labels = torch.full((4, 1, 9, 9), 0.5), torch.zeros(4, dtype=torch.long)
    weight = torch.zeros(2, 81)
    weight[1] = pyramid_pair(9, images, 2).flatten()  # of length 1
    model = Linear(weight)
    found = Square(eps=0.5, norm="2", queries=600, early_stop=False)(model, images, labels)
    gain = (margin(model(found), labels) - margin(model(images), labels)).detach() / 0.5
    assert float(gain.min()) > 0.8, gain
    torch.testing.assert_close((found - images).flatten(1).norm(dim=1), torch.full((4,), 0.5), rtol=1e-4, atol=0)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8])
def test_a_pair_of_pyramids_is_of_length_one_and_adds_up_to_little(side: int, power: int) -> None:
    pair = pyramid_pair(side, torch.zeros(1, dtype=torch.float64), power)
    assert float(pair.norm(power)) == pytest.approx(1)
    if side % 2 == 0:
        torch.testing.assert_close(pair[: side // 2], -pair[side // 2 :])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 7, 12), (3, 4, 4), (1, 1, 1)])
def test_starts_and_moves_keep_to_the_sphere(shape: tuple[int, ...]) -> None:
    like = torch.zeros(5, *shape)
    draws = Draws(0, range(5))
    assert bool((stripes(draws, like).abs() == 1).all())
    start = pyramids(draws, like, 2)
    torch.testing.assert_close(start.flatten(1).norm(dim=1), torch.ones(5))
    proposals, eps = Proposals.drawn(draws, like), torch.full((5, 1, 1, 1), 2.0)
    for query in range(4):
        start = moved(proposals, query, 3, start, eps, 2)
        torch.testing.assert_close(start.flatten(1).norm(dim=1), torch.full((5,), 2.0))


def test_windows_lie_inside_and_everywhere() -> None:
    like = torch.zeros(200, 3, 5, 7)
    proposals = Proposals.drawn(Draws(0, range(200)), like)
    windows = inside(proposals.window(3, 2, like), 2)
    assert windows.flatten(1).sum(1).tolist() == [4] * 200
    assert bool(windows.any(0).all())
    assert [side_of(0.8, q / 10000, torch.zeros(1, 3, 32, 32)) for q in (0, 11, 51, 8001)] == [29, 20, 14, 1]


class Watched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.asked.append(len(images))
        return Exact()(images)


def test_images_that_have_fallen_are_not_asked_about_again() -> None:
    model, images = Watched(), torch.rand(16, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    labels = Exact()(images).argmax(1)
    Square(eps=0.15, queries=60)(model, images, labels)
    assert model.asked == sorted(model.asked, reverse=True)
    assert model.asked[-1] < 16
    full = Watched()
    Square(eps=0.15, queries=60, early_stop=False)(full, images, labels)
    assert full.asked == [16] * 60


def test_norm_1_fills_few_values() -> None:
    images, labels = torch.full((4, 1, 9, 9), 0.5), torch.zeros(4, dtype=torch.long)
    weight = torch.zeros(2, 81)
    weight[1] = pyramid_pair(9, images, 1).flatten()
    model = Linear(weight)
    found = Square(eps=1.5, norm="1", queries=600, early_stop=False)(model, images, labels)
    gain = (margin(model(found), labels) - margin(model(images), labels)).detach()
    steepest = weight[1].abs().sort(descending=True)[0]
    most = float(steepest[:3].sum()) * 0.5  # three values go all the way to the box
    assert float(gain.min()) > 0.7 * most, gain / most
    assert float((found - images).abs().flatten(1).sum(1).max()) <= 1.5 * (1 + 1e-5)


@pytest.mark.parametrize("norm", ["2", "1"])
def test_more_queries_never_find_less_in_the_norms_2_and_1(norm: Any) -> None:
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = Exact()
    labels = model(images).argmax(1)
    reached = [
        margin(model(Square(eps=0.1, norm=norm, queries=n, early_stop=False)(model, images, labels)), labels)
        for n in (5, 20, 60)
    ]
    assert bool((reached[0] <= reached[1]).all() and (reached[1] <= reached[2]).all())
