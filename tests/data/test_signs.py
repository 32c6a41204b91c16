"""The world of signs: the same bits however they are asked for, and signs that can be told apart."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from vallum.data.worlds.shapes import arc, both, box, disc, mirrored, placed, polygon, regular, stroke, union, without
from vallum.data.worlds.sign_classes import CLASSES, COLOURS, signs
from vallum.data.worlds.sign_scene import PAINTS, View, distances
from vallum.data.worlds.signs import Signs
from vallum.errors import UserError
from vallum.images import Task, check_images
from vallum.specs import Source

WORLD = Signs(n=200)
REFERENCE = WORLD.batch(range(200))
GOLDEN_SUMS = [336391, 282208, 455311, 194650]
GOLDEN_WEIGHTED = [41412381, 35238471, 55948712, 24359263]
GOLDEN_LABELS = [23, 9, 37, 25, 27, 5, 30, 24]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 199), min_size=1, max_size=70))
def test_an_image_is_the_same_in_any_batch(indices: list[int]) -> None:
    batch = WORLD.batch(indices)
    assert torch.equal(batch.images, REFERENCE.images[indices])
    assert torch.equal(batch.labels, REFERENCE.labels[indices])
    assert batch.keys.tolist() == indices
    assert batch.names == [str(index) for index in indices]


@pytest.mark.parametrize("size", [16, 17, 31, 48, 64])
def test_alone_and_together_are_equal_at_any_size(size: int) -> None:
    world = Signs(n=10, size=size)  # odd sizes end a row between two of the processor's vectors
    together = world.batch([4, 1, 7, 2, 9]).images
    assert together.shape == (5, 3, size, size)
    for row, index in enumerate([4, 1, 7, 2, 9]):
        assert torch.equal(world.read(index)[0], together[row])


def test_the_number_of_images_changes_none_of_them() -> None:
    short, long = Signs(n=60).batch(range(60)), Signs(n=1_000_000).batch(range(60))
    assert torch.equal(short.images, long.images)
    assert torch.equal(short.labels, long.labels)
    assert Signs(n=60).fingerprint(range(60)) == Signs(n=1_000_000).fingerprint(range(60))


def test_chunks_within_a_batch_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vallum.data.worlds.signs.PIXELS_AT_ONCE", 7 * 32 * 32)
    assert torch.equal(WORLD.batch(range(50)).images, REFERENCE.images[:50])


@pytest.mark.parametrize("size", [16, 32, 64])
def test_images_are_eight_bit_photographs(size: int) -> None:
    images = Signs(n=86, size=size).batch(range(86)).images
    check_images(images)
    assert torch.equal(images, (images * 255).round() / 255)
    assert float(images.std(dim=(1, 2, 3)).median()) > 0.1  # not flat
    assert float((images[:, 0] - images[:, 2]).abs().mean()) > 0.03  # not grey


def test_another_size_shows_the_same_scene() -> None:
    small, large = Signs(n=60).batch(range(60)).images, Signs(n=60, size=64).batch(range(60)).images
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    same = (small - shrunk).abs().mean(dim=(1, 2, 3))
    other = (small - shrunk.roll(1, 0)).abs().mean(dim=(1, 2, 3))
    assert bool((same < other).all())


def test_every_run_of_43_holds_every_class() -> None:
    labels = Signs(n=430).batch(range(430)).labels.view(10, 43)
    assert all(sorted(run) == list(range(43)) for run in labels.tolist())
    assert len({tuple(run) for run in labels.tolist()}) == 10  # each in an order of its own


@pytest.mark.parametrize("other", [{"split": "train"}, {"split": "val"}, {"seed": 1}])
def test_splits_and_seeds_share_no_image(other: dict[str, Any]) -> None:
    world = Signs(n=200, **other)
    batch = world.batch(range(200))
    ours = {image.numpy().tobytes() for image in REFERENCE.images}
    assert not ours & {image.numpy().tobytes() for image in batch.images}
    assert not torch.equal(batch.labels, REFERENCE.labels)
    assert not {WORLD.identity(i) for i in range(200)} & {world.identity(i) for i in range(200)}


def test_the_world_has_not_changed() -> None:
    """If it was meant to change, raise WORLD_VERSION and write the new sums here."""
    bits = (REFERENCE.images[[0, 1, 42, 199]] * 255).round().long()
    assert bits.sum(dim=(1, 2, 3)).tolist() == GOLDEN_SUMS
    weights = torch.arange(bits[0].numel()) % 251
    assert (bits.flatten(1) * weights).sum(1).tolist() == GOLDEN_WEIGHTED
    assert REFERENCE.labels[:8].tolist() == GOLDEN_LABELS


def test_every_class_looks_different_from_every_other() -> None:
    size, count = 32, len(CLASSES)
    line = (torch.arange(size) * 2 + 1 - size) / size
    u, v = line.view(1, 1, 1, size).expand(count, 1, size, size), -line.view(1, 1, size, 1).expand(count, 1, size, size)
    view = View(u, v, u, v, torch.full((count, 1, 1, 1), 2 / size))
    layers, colours = distances(view, torch.arange(count))
    pictures = torch.full((count, 3, size, size), 0.5)
    for layer in range(layers.shape[1]):
        paint = PAINTS[colours[:, layer]][:, :, None, None]
        pictures += (paint - pictures) * view.cover(layers[:, layer : layer + 1])
    apart = torch.cdist(pictures.flatten(1), pictures.flatten(1)) + torch.eye(count) * 1e9
    assert float(apart.min()) > 1.5


def test_classes() -> None:
    assert len(WORLD.classes) == len(set(WORLD.classes)) == 43
    assert WORLD.task is Task.CLASSIFY
    assert {colour for pile in signs().values() for colour, _ in pile} <= set(COLOURS)


def test_the_atlas_returns_the_distances_of_the_shapes() -> None:
    label, (red, white, black) = 0, signs()["speed limit 20"]
    points = torch.rand(1, 2, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    view = View(points, points, points[:, :1], points[:, 1:], torch.ones(1, 1, 1, 1))
    found, _ = distances(view, torch.tensor([label]))
    for layer, (_, shape) in enumerate((red, white, black)):
        exact = shape(view.u[0, 0].double().numpy(), view.v[0, 0].double().numpy())
        assert np.abs(found[0, layer].numpy() - exact).max() < 0.015  # a cell is 0.025 wide
    assert bool((found[0, 3:] > 1).all())  # layers that it does not have


@pytest.mark.parametrize(
    "options", [{}, {"n": 43, "size": 64}, {"split": "train"}, {"seed": 7, "split": "val", "n": 100, "size": 16}]
)
def test_the_spec_makes_the_world_again(options: dict[str, Any]) -> None:
    world = Signs(**options)
    source = Source.parse(world.spec)
    assert (source.scheme, source.rest) == ("builtin", "signs")
    assert set(source.options) == set(options)
    said: dict[str, Any] = {name: text if name == "split" else int(text) for name, text in source.options.items()}
    again = Signs(**said)
    assert torch.equal(again.read(3)[0], world.read(3)[0])
    assert len(again) == len(world)


def test_an_empty_batch() -> None:
    batch = WORLD.batch([])
    assert batch.images.shape == (0, 3, 32, 32)
    assert len(batch) == len(batch.labels) == 0


@pytest.mark.parametrize("wrong", [{"n": 0}, {"size": 8}, {"split": "training"}])
def test_mistakes_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=str(next(iter(wrong.values())))):
        Signs(**wrong)


@pytest.mark.parametrize("index", [-1, 200])
def test_no_image_beyond_the_end(index: int) -> None:
    with pytest.raises(UserError, match="images 0 to 199"):
        WORLD.batch([0, index])
    with pytest.raises(UserError, match="images 0 to 199"):
        WORLD.identity(index)


X, Y = np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(-1.5, 1.5, 31))


def test_distances_in_closed_form() -> None:
    radius = np.hypot(X, Y)
    outside = np.hypot(np.maximum(np.abs(X) - 0.5, 0), np.maximum(np.abs(Y) - 0.5, 0))
    inside = np.minimum(np.maximum(np.abs(X), np.abs(Y)) - 0.5, 0)
    np.testing.assert_allclose(box(-0.5, -0.5, 0.5, 0.5)(X, Y), outside + inside, atol=1e-12)
    np.testing.assert_allclose(regular(4, np.sqrt(0.5), 45)(X, Y), outside + inside, atol=1e-5)
    np.testing.assert_allclose(stroke([(0, 0), (0, 0)], 0.4)(X, Y), radius - 0.2, atol=1e-12)
    np.testing.assert_allclose(polygon(arc(0, 0, 1, 1, 0, 360, 400)[:-1])(X, Y), radius - 1, atol=1e-4)
    np.testing.assert_allclose(placed(disc(0, 0, 1), 0.2, -0.3, 0.5)(X, Y), disc(0.2, -0.3, 0.5)(X, Y), atol=1e-12)
    np.testing.assert_allclose(mirrored(disc(0.3, 0.1, 0.5))(X, Y), disc(-0.3, 0.1, 0.5)(X, Y), atol=1e-12)


def test_shapes_combine_as_sets() -> None:
    one, other = disc(-0.3, 0, 0.6), disc(0.3, 0, 0.6)
    in_one, in_other = one(X, Y) < 0, other(X, Y) < 0
    np.testing.assert_array_equal(union(one, other)(X, Y) < 0, in_one | in_other)
    np.testing.assert_array_equal(both(one, other)(X, Y) < 0, in_one & in_other)
    np.testing.assert_array_equal(without(one, other)(X, Y) < 0, in_one & (other(X, Y) > 0))
