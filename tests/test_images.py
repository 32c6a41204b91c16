"""Random streams in which each image stands alone, and what a batch of images is."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from vallum.errors import UserError
from vallum.images import Batch, Draws, check_images

seeds = st.integers(-(2**70), 2**70)
keys = st.integers(-(2**63), 2**63 - 1)
words = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=8)  # owners and purposes are a path
KINDS = ("uniform", "normal", "exponential")


def all_kinds(draws: Draws, purpose: str = "test") -> list[torch.Tensor]:
    made = [getattr(draws, kind)(2, 3, purpose=purpose) for kind in KINDS]
    return [*made, draws.integers(1000, 2, 3, purpose=purpose)]


@settings(max_examples=60)
@given(seed=seeds, mine=st.lists(keys, min_size=1, max_size=6), owner=words, data=st.data())
def test_an_image_draws_the_same_bits_in_any_batch(seed: int, mine: list[int], owner: str, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(mine))))
    together = all_kinds(Draws(seed, mine).of(owner))
    shuffled = all_kinds(Draws(seed, torch.tensor([mine[i] for i in order])).of(owner))
    for many, other in zip(together, shuffled, strict=True):
        assert torch.equal(many[list(order)], other)
    for i, key in enumerate(mine):
        for many, alone in zip(together, all_kinds(Draws(seed, [key]).of(owner)), strict=True):
            assert torch.equal(many[i : i + 1], alone)


@settings(max_examples=60)
@given(one=st.tuples(seeds, keys, words, words), other=st.tuples(seeds, keys, words, words))
def test_another_seed_key_owner_or_purpose_draws_something_else(
    one: tuple[int, int, str, str], other: tuple[int, int, str, str]
) -> None:
    assume(one != other)

    def drawn(seed: int, key: int, owner: str, purpose: str) -> torch.Tensor:
        return Draws(seed, [key]).of(owner).integers(2**62, 3, purpose=purpose)

    for place in range(4):
        mixed = (*one[:place], other[place], *one[place + 1 :])
        assert torch.equal(drawn(*one), drawn(*mixed)) == (one == mixed)
    assert not torch.equal(drawn(*one), drawn(*other))


def test_seed_and_owner_do_not_run_together() -> None:
    assert not torch.equal(Draws(1, [0], "2").uniform(4, purpose="x"), Draws(12, [0]).uniform(4, purpose="x"))
    assert not torch.equal(Draws(1, [0]).uniform(4, purpose="x"), Draws(-1, [0]).uniform(4, purpose="x"))


def test_owners_make_a_path() -> None:
    wanted = Draws(3, [1]).of("attack").of("restart 2").uniform(5, purpose="start")
    assert torch.equal(Draws(3, [1], "attack/restart 2").uniform(5, purpose="start"), wanted)
    assert torch.equal(Draws(3, [1], "attack").of("restart 2").uniform(5, purpose="start"), wanted)


def test_a_purpose_can_be_asked_for_again() -> None:
    draws = Draws(3, [1, 2])
    assert torch.equal(draws.normal(5, purpose="noise"), draws.normal(5, purpose="noise"))
    assert [g.integers(99) for g in draws.each("x")] == [g.integers(99) for g in draws.each("x")]


def test_these_bits_never_change() -> None:
    """Whoever changes them changes every result that was ever stored: noise, starts, built-in worlds."""
    draws, deep = Draws(0, [0, 7, -3]), Draws(12345, [2**40]).of("PGD").of("restart 1")
    assert draws.uniform(2, purpose="start").tolist() == [
        [0.04146355390548706, 0.3402051329612732],
        [0.8471854329109192, 0.9177042841911316],
        [0.6013157963752747, 0.5358116626739502],
    ]
    assert draws.normal(2, purpose="noise").tolist() == [
        [-1.153882622718811, -0.7062370181083679],
        [1.355703353881836, 2.6162569522857666],
        [-0.1805485635995865, 1.7171274423599243],
    ]
    assert draws.exponential(1, purpose="x").tolist() == [
        [0.6853792071342468],
        [0.1459502875804901],
        [0.2917749881744385],
    ]
    assert draws.integers(1000, 3, purpose="i").tolist() == [[54, 629, 101], [460, 164, 753], [456, 107, 746]]
    assert [g.permutation(6).tolist() for g in draws.each("order")] == [
        [0, 1, 3, 2, 4, 5],
        [3, 4, 0, 5, 2, 1],
        [4, 2, 5, 3, 1, 0],
    ]
    assert deep.uniform(2, purpose="start").tolist() == [[0.4630131125450134, 0.975255012512207]]
    assert deep.integers(1000, 3, purpose="i").tolist() == [[401, 11, 583]]


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = Draws(0, range(40))
    alone = draws.normal(3, 32, 32, purpose="x")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert torch.equal(draws.normal(3, 32, 32, purpose="x"), alone)


def test_shapes_types_and_ranges() -> None:
    draws = Draws(0, range(4))
    assert len(draws) == 4
    for kind in KINDS:
        made = getattr(draws, kind)(2, 3, purpose="x")
        assert (made.shape, made.dtype) == ((4, 2, 3), torch.float32)
        assert getattr(draws, kind)(purpose="x").shape == (4,)
    whole = draws.integers(5, 2, 3, purpose="x")
    assert (whole.shape, whole.dtype) == ((4, 2, 3), torch.int64)
    assert Draws(0, []).normal(3, purpose="x").shape == (0, 3)
    assert draws.integers(1, 50, purpose="x").unique().tolist() == [0]


@pytest.mark.parametrize(("kind", "law"), [("uniform", "uniform"), ("normal", "norm"), ("exponential", "expon")])
def test_what_is_drawn_follows_its_law(kind: str, law: str) -> None:
    within = getattr(Draws(0, [5]), kind)(20000, purpose="x").flatten().numpy()
    across = getattr(Draws(0, range(-5000, 5000)), kind)(purpose="x").numpy()  # one number from each of many streams
    assert stats.kstest(within, law).pvalue > 1e-3
    assert stats.kstest(across, law).pvalue > 1e-3


def test_integers_are_even_and_neighbours_unrelated() -> None:
    counts = Draws(0, range(2000)).integers(7, 5, purpose="x").flatten().bincount(minlength=7)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    noise = Draws(0, range(30)).normal(2000, purpose="x").numpy()  # neighbouring keys
    more = np.concatenate([noise, Draws(0, range(30)).normal(2000, purpose="y").numpy()])
    related = np.corrcoef(more) - np.eye(60)
    assert np.abs(related).max() < 5 / np.sqrt(2000)


@pytest.mark.parametrize("held", [[4, -9, 2**50, 0], range(4), torch.tensor([4, -9, 2**50, 0])], ids=type)
def test_take(held: object) -> None:
    draws = Draws(1, held, "who")  # type: ignore[arg-type]
    whole = draws.uniform(3, purpose="x")
    mask = torch.tensor([True, False, True, True])
    assert torch.equal(draws.take(mask).uniform(3, purpose="x"), whole[mask])
    for rows in ([3, 1], [2, 2, 0], [-1], []):
        index = torch.tensor(rows, dtype=torch.int64)
        assert torch.equal(draws.take(index).uniform(3, purpose="x"), whole[index])
    assert torch.equal(draws.take(mask).take(torch.tensor([2, 0])).uniform(3, purpose="x"), whole[[3, 0]])
    assert torch.equal(
        draws.take(mask).of("part").uniform(3, purpose="x"), draws.of("part").take(mask).uniform(3, purpose="x")
    )


@pytest.mark.parametrize("key", [2**63, -(2**63) - 1, 2**64, 10**30])
def test_keys_beyond_64_bits_would_share_a_stream_and_are_refused(key: int) -> None:
    with pytest.raises(UserError, match=f"has the key {key}: keys are 64-bit integers"):
        Draws(0, [0, key]).uniform(1, purpose="x")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([1, 2], "are a list: a torch.Tensor is needed; use torch.as_tensor"),
        (torch.rand(3, 8, 8), r"shape \(3, 8, 8\): \(N, C, H, W\) is needed; add a batch axis"),
        (torch.rand(0, 3, 8, 8), "are empty"),
        (torch.rand(2, 8, 8, 3), r"channels come first: \(N, C, H, W\); use images.permute"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "are torch.uint8: floats in .* use images.float.. / 255"),
        (torch.full((2, 3, 8, 8), torch.nan), "hold NaN or infinity"),
        (torch.full((2, 3, 8, 8), torch.inf), "hold NaN or infinity"),
        (torch.full((2, 3, 8, 8), 200.0), "reach 200.0.*divide them by 255"),
        (torch.linspace(-2.1, 2.6, 192).view(1, 3, 8, 8), "take the normalisation out of the data"),
        (torch.linspace(-1, 1, 192).view(1, 3, 8, 8), r"lie in \[-1.00, 1.00\].*give it to the model"),
    ],
)
def test_what_is_no_batch_of_images_is_told_so_with_the_remedy(images: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_images(images)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_images_of_any_float_type_pass(dtype: torch.dtype) -> None:
    for channels in (1, 3, 4, 7):
        check_images(torch.rand(2, channels, 8, 8).to(dtype))
    check_images(torch.tensor([0.0, 1.0], dtype=dtype).view(1, 1, 1, 2))


def test_a_batch_moves_as_a_whole_but_for_its_keys() -> None:
    batch = Batch(torch.rand(2, 3, 4, 4), torch.zeros(2), torch.tensor([5, 6]), ["a", "b"])
    moved = batch.to("meta")
    assert len(moved) == 2
    assert (moved.images.device.type, moved.labels.device.type, moved.keys.device.type) == ("meta", "meta", "cpu")
    assert moved.names == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "where", "said"),
    [
        (torch.full((1, 3, 2, 2), torch.nan), "image 0 of one.npz", "image 0 of one.npz holds NaN"),
        (torch.full((1, 3, 2, 2), 255.0), "image 0 of one.npz", "image 0 of one.npz reaches 255.0"),
        (torch.full((1, 3, 2, 2), 255.0), "the images of one.npz", "the images of one.npz reach 255.0"),
        (3, "what it returns", "what it returns is an int"),
    ],
)
def test_one_image_is_one_and_several_are_several(values: object, where: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(said)}"):
        check_images(values, where)  # type: ignore[arg-type]
