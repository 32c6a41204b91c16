"""Shifts, rotations and warps against where pixels must land, and against trying everything by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from threat_oracles import Exact, ExactPixels
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE, Draws
from vallum.threats import Spatial, Warp
from vallum.threats import threat as make_threat
from vallum.threats.losses import margin
from vallum.threats.spatial import moved
from vallum.threats.warp import warped

IMAGES = torch.rand(6, 3, 14, 17, generator=torch.Generator().manual_seed(0))
MASKS = ExactPixels()(IMAGES).argmax(1)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (0, -3), (-1, 4)])
def test_a_shift_by_whole_pixels_is_a_shift(down: int, right: int) -> None:
    found, masks = moved(IMAGES, MASKS, torch.tensor([[float(down), float(right), 0.0]] * 6), "black")
    wanted, labels = torch.zeros_like(IMAGES), torch.full_like(MASKS, IGNORE)
    rows, columns = slice(max(down, 0), 14 + min(down, 0)), slice(max(right, 0), 17 + min(right, 0))
    old = slice(max(-down, 0), 14 + min(-down, 0)), slice(max(-right, 0), 17 + min(-right, 0))
    wanted[:, :, rows, columns], labels[:, rows, columns] = IMAGES[:, :, *old], MASKS[:, *old]
    assert torch.equal(found, wanted)
    assert torch.equal(masks, labels)


@pytest.mark.parametrize("degrees", [7.0, -30.0])
def test_a_rotation_is_that_of_scipy(degrees: float) -> None:
    found, masks = moved(IMAGES, MASKS, torch.tensor([[0.0, 0.0, degrees]] * 6), "black")
    wanted = ndimage.rotate(IMAGES.numpy(), degrees, (3, 2), reshape=False, order=1, cval=0.0)
    middle = np.s_[:, :, 3:-3, 4:-4]  # at the edges each has a way of its own
    np.testing.assert_allclose(found.numpy()[middle], wanted[middle], atol=2e-3)
    labels = ndimage.rotate(MASKS.numpy(), degrees, (2, 1), reshape=False, order=0, cval=IGNORE)
    assert float((masks.numpy()[:, 3:-3, 4:-4] == labels[:, 3:-3, 4:-4]).mean()) > 0.98  # ties of nearest pixels


def test_mirrors_ignore_nothing() -> None:
    found, masks = moved(IMAGES, MASKS, torch.tensor([[3.0, 0.0, 0.0]] * 6), "mirror")
    assert torch.equal(found[:, :, :3], IMAGES[:, :, :3].flip(2))
    assert not bool((masks == IGNORE).any())


@pytest.mark.parametrize("search", ["grid", "random"])
def test_it_keeps_the_worst_of_all_that_it_tries(search: str) -> None:
    labels = Exact()(IMAGES).argmax(1)
    attack = Spatial(queries=30, search=search, early_stop=False)
    moves = attack.moves(Draws(0, range(6)).of("Spatial"), IMAGES)
    assert moves.shape == (6, 27 if search == "grid" else 31, 3)
    assert attack.passes == moves.shape[1]
    assert not bool(moves[:, 0].any()), "the image as it is comes first"
    assert bool((moves.abs() <= torch.tensor([1.4, 1.7, 30.0]) * 1.0001).all())
    each = [margin(Exact()(moved(IMAGES, labels, moves[:, q], "black")[0]), labels) for q in range(moves.shape[1])]
    found = margin(Exact()(attack(Exact(), IMAGES, labels)), labels)
    assert torch.equal(found, torch.stack(each).amax(0))


def test_the_papers_grid() -> None:
    for queries in (774, 775):
        moves = Spatial(queries=queries).moves(Draws(0, [0]), IMAGES[:1])[0]
        assert [len(moves[:, axis].unique()) for axis in range(3)] == [5, 5, 31]
        assert len(moves) == len(moves.unique(dim=0)) == 775


@pytest.mark.parametrize(
    ("spec", "places", "tried"),
    [
        ("spatial", (3, 3, 11), 98),
        ("spatial:queries=50", (3, 3, 5), 44),
        ("spatial:queries=200", (5, 5, 7), 174),
        ("spatial:shift=0", (1, 1, 101), 100),
        ("spatial:shift=0,rotation=180", (1, 1, 100), 99),
        ("spatial:rotation=0", (9, 9, 1), 80),
        ("spatial:shift=0,rotation=0", (1, 1, 1), 0),
        ("spatial:queries=7", (3, 3, 3), 7),
        ("spatial:queries=1,shift=0", (1, 1, 2), 1),
    ],
)
def test_a_grid_spends_its_queries_on_moves_that_differ(spec: str, places: tuple[int, ...], tried: int) -> None:
    grid = make_threat(spec).grid()
    assert len(grid) == len(grid.unique(dim=0)) == tried
    assert bool(grid.any(1).all()), "the image as it is takes no query"
    with_it = torch.cat([torch.zeros(1, 3), grid])
    assert tuple(len(with_it[:, axis].unique()) for axis in range(3)) == places
    if tried > 7 and "=180" not in spec:
        assert torch.equal(grid.unique(dim=0), (0 - grid).unique(dim=0)), "as far to one side as to the other"
    for axis in range(3):  # an axis that is free is tried by itself
        alone = (grid[:, axis] != 0) & (grid[:, [a for a in range(3) if a != axis]] == 0).all(1)
        assert bool(alone.any()) == (places[axis] > 1)


def test_a_warp_moves_no_pixel_farther_than_it_may_and_its_neighbours_with_it() -> None:
    ramp = torch.stack([torch.arange(20.0)[:, None].expand(20, 24), torch.arange(24.0).expand(20, 24)])[None] / 24

    def wants_up_and_left(images: Tensor) -> Tensor:
        lead = images[:, 0, 4:9].mean((1, 2)) + images[:, 1, :, 4:9].mean((1, 2))
        return torch.stack([torch.zeros_like(lead), lead], 1)

    attack = Warp(reach=1.5, spacing=4, steps=10, early_stop=False)
    found = attack(wants_up_and_left, ramp, torch.tensor([0]))
    far = (found - ramp)[0, :, 3:-3, 3:-3] * 24  # a ramp's values are its places
    assert float(far.abs().max()) == pytest.approx(1.5, abs=1e-3)
    assert float(far[0, 2:5].min()) == pytest.approx(1.5, abs=1e-3), "as far as it may where that helps"
    rough = (found[0, :, 3:-3, 4:-3] - found[0, :, 3:-3, 3:-4]) * 24 - torch.tensor([0.0, 1.0]).view(2, 1, 1)
    assert float(rough.abs().max()) <= 2 * 1.5 / 4 * 1.3, "from one end to the other takes a whole spacing"


def test_a_warps_mask_moves_as_the_image_does() -> None:
    field = (torch.rand(6, 2, 4, 5, generator=torch.Generator().manual_seed(1)) * 2 - 1) * 2
    blocks = MASKS[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)[:, :14, :17]
    layers = F.one_hot(blocks).permute(0, 3, 1, 2).float()  # (N, K, H, W): how much of each class there is
    shown, masks = warped(layers, blocks, field)
    there = shown.gather(1, masks[:, None])[:, 0]
    assert float(there.min()) >= 0.25 - 1e-3, "of four neighbours the nearest weighs a quarter at least"
    assert float((there == 1).float().mean()) > 0.4, "inside a block there is nothing else"
    assert not torch.equal(masks, blocks)
    still, same = warped(IMAGES, MASKS, torch.zeros(6, 2, 4, 5))
    assert torch.equal(still, IMAGES)
    assert torch.equal(same, MASKS)


@pytest.mark.parametrize("attack", [Spatial(queries=30), Warp(reach=1.0, steps=4)])
def test_labels_come_with_the_image_that_is_kept(attack: Spatial | Warp) -> None:
    found, masks = attack.with_labels(ExactPixels(), IMAGES, MASKS)
    assert torch.equal(found, attack(ExactPixels(), IMAGES, MASKS))
    assert not torch.equal(masks, MASKS)
    labels = Exact()(IMAGES).argmax(1)
    assert torch.equal(attack.with_labels(Exact(), IMAGES, labels)[1], labels)


def test_more_of_everything_never_reports_less() -> None:
    labels = Exact()(IMAGES).argmax(1)

    def reached(attack: Spatial | Warp) -> Tensor:
        return margin(Exact()(attack(Exact(), IMAGES, labels)), labels)

    random = [reached(Spatial(search="random", queries=n, early_stop=False)) for n in (1, 5, 25)]
    warps = [reached(Warp(reach=1.0, steps=4, restarts=n, early_stop=False)) for n in (1, 2, 4)]
    for few, more in ((random[0], random[1]), (random[1], random[2]), (warps[0], warps[1]), (warps[1], warps[2])):
        assert bool((few <= more).all())
    assert bool((random[0] < random[2]).any())


def test_mistakes() -> None:
    for made, wrong in (
        (Spatial, {"shift": 3}),
        (Spatial, {"queries": 0}),
        (Warp, {"reach": 0}),
        (Warp, {"reach": 1, "steps": 0}),
    ):
        with pytest.raises(UserError):
            made(**wrong)
