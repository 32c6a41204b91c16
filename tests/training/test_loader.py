"""The loader: the right images, in the right order, read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from training_toys import Dots

from vallum.errors import UserError
from vallum.images import Task
from vallum.training import Settings
from vallum.training.loader import Cache, Loader, held_out


def plain(**changes: Any) -> Settings:
    return Settings(**{"batch_size": 8, "shift": 0, "colour": 0, **changes})


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("limit", [0, 1e9])
def test_a_cache_gives_what_the_data_give(task: Task, whole: bool, limit: float) -> None:
    data = Dots(n=20, task=task, whole=whole)
    cache = Cache(data, limit)
    for indices in ([3, 1], [1, 2, 3], [1, 3], list(range(20)), [19, 0]):
        ours, theirs = cache.batch(indices), data.batch(indices)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.labels.dtype == theirs.labels.dtype
        assert ours.keys.tolist() == indices
        assert ours.names == theirs.names


def test_a_cache_reads_once_and_keeps_whole_numbers_as_bytes() -> None:
    data = Dots(n=20, whole=True)
    cache = Cache(data, limit=20 * (3 * 8 * 8 + 1))  # a byte for each number, and one for the label
    for _ in range(3):
        cache.batch(list(range(20)))
    assert data.reads == 20
    too_small = Cache(Dots(n=20), limit=20 * (3 * 8 * 8 + 1))  # numbers that need four
    for _ in range(3):
        too_small.batch(list(range(20)))
    assert isinstance(too_small.data, Dots)
    assert too_small.data.reads == 60


@pytest.mark.parametrize("limit", [0, 1e9])
def test_broken_images_are_left_out_where_the_data_skip_them(limit: float) -> None:
    data = Dots(n=12, broken=[2, 5])
    data.on_error = "skip"
    cache = Cache(data, limit)
    for _ in range(2):
        assert cache.batch([2]).keys.tolist() == []
        assert cache.batch([1, 2, 3]).keys.tolist() == [1, 3]
        assert cache.batch(list(range(12))).keys.tolist() == [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]
    with pytest.raises(UserError, match="image 2 is broken"):
        Cache(Dots(n=12, broken=[2]), limit).batch([1, 2, 3])


def test_an_epoch_is_a_permutation_of_its_own() -> None:
    indices = np.arange(3, 37)
    loader = Loader(Cache(Dots(), 0), indices, plain(workers=3))
    seen = [
        [int(key) for portion in loader.epoch(e) for batch in portion.batches for key in batch.keys] for e in (0, 1, 0)
    ]
    assert seen[0] == seen[2] != seen[1]
    assert loader.steps == 4
    assert all(len(set(keys)) == 32 and set(keys) <= set(indices.tolist()) for keys in seen)
    # Started in the middle, it goes on as it would have.
    rest = [int(key) for portion in loader.epoch(1, start=3) for batch in portion.batches for key in batch.keys]
    assert rest == seen[1][24:]


@pytest.mark.parametrize(("world", "accumulate"), [(1, 3), (2, 1), (3, 2)])
def test_processes_and_parts_cut_the_same_batches(world: int, accumulate: int) -> None:
    whole = Loader(Cache(Dots(), 0), np.arange(40), plain())
    loaders = [
        Loader(Cache(Dots(), 0), np.arange(40), plain(accumulate=accumulate), rank, world) for rank in range(world)
    ]
    for one, *parts in zip(whole.epoch(0), *(loader.epoch(0) for loader in loaders), strict=True):
        keys = [part.offset for part in parts], [int(k) for part in parts for b in part.batches for k in b.keys]
        assert keys[1] == one.batches[0].keys.tolist()
        assert keys[0] == list(np.cumsum([0, *(sum(map(len, part.batches)) for part in parts)])[:-1])
        assert all(len(part.batches) == accumulate and part.total == 8 for part in parts)


def test_an_abandoned_epoch_leaves_no_thread_at_work() -> None:
    data = Dots(n=40, slow=0.001)
    epoch = Loader(Cache(data, 0), np.arange(40), plain(workers=1)).epoch(0)
    next(epoch)
    epoch.close()
    assert data.reads <= 24  # what was given, and at most two that had been begun or asked for


def test_labels_outside_the_classes() -> None:
    data = Dots(n=12)
    data.classes = data.classes[:2]
    with pytest.raises(UserError, match="a label is 3: dots names 2 classes, 0 to 1"):
        Cache(data, 0).batch(list(range(12)))


def test_held_out_images_are_a_share_that_the_seed_decides() -> None:
    data = Dots(n=40)
    train, held = held_out(data, 0.25, seed=1)
    assert len(held) == 10
    assert sorted([*train, *held]) == list(range(40))
    assert held.tolist() == held_out(data, 0.25, seed=1)[1].tolist() != held_out(data, 0.25, seed=2)[1].tolist()
    assert not len(held_out(data, 0.0, seed=1)[1])
    for share, said in ((1.0, "below 1"), (0.999, "none to train on")):
        with pytest.raises(UserError, match=said):
            held_out(data, share, seed=0)
