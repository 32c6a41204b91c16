"""Specs: what is written can be read again, and what cannot be read is told why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vallum.errors import UserError
from vallum.specs import Parameter, Registry, Source, parameter, parameters, read_value, split_arguments, write_value
from vallum.threats import PGD, THREATS, Gaussian, RandomSearch, SaltPepper

THINGS: Registry[Any] = Registry("thing")


@THINGS.register("thing")
@dataclass(frozen=True)
class Thing:
    size: float = parameter("how large")
    count: int = parameter("how many", 3)
    mode: Literal["fast", "slow"] = parameter("how", "fast")
    limit: float | None = parameter("at most", None)
    on: bool = parameter("whether", True)
    note: str = parameter("what is said", "x")
    inner: int = parameter("nobody sees this", 0, hidden=True)


@THINGS.register("bare")
@dataclass(frozen=True)
class Bare:
    pass


finite = st.floats(allow_nan=False)
plain_words = st.text("abcXYZ019_./-", min_size=1, max_size=8)


@settings(max_examples=300)
@given(finite)
def test_every_float_is_read_back_exactly(value: float) -> None:
    again = read_value(write_value(value), float, "x")
    assert again == value
    assert math.copysign(1, again) == math.copysign(1, value)


@given(st.integers(1, 299), st.sampled_from([255, 3]))
def test_fractions_stay_readable(above: int, below: int) -> None:
    text = write_value(above / below)
    assert read_value(text, float, "x") == above / below
    assert len(text) <= len(f"{255 * above}/255")


@given(st.one_of(st.integers(), st.booleans(), st.none(), finite.map(np.float64), st.integers(-9, 9).map(np.int64)))
def test_other_values_are_read_back_exactly(value: Any) -> None:
    kind = {bool: bool, int: int, np.int64: int, np.float64: float}.get(type(value), int | None)
    assert read_value(write_value(value), kind, "x") == value


@settings(max_examples=50)
@given(
    st.builds(
        Thing,
        size=finite,
        count=st.integers(),
        mode=st.sampled_from(["fast", "slow"]),
        limit=st.none() | finite,
        on=st.booleans(),
        note=plain_words,
    )
)
def test_a_thing_is_made_again_from_its_spec(thing: Thing) -> None:
    assert THINGS.parse(THINGS.spec(thing)) == thing


radii = st.floats(0, 1) | st.integers(1, 255).map(lambda n: n / 255)
counts, positive, whole = st.integers(1, 10**6), st.floats(0, 1e9, exclude_min=True), st.integers()
attacks = {
    "norm": st.sampled_from(["inf", "2", "1"]),
    "eps": radii,
    "loss": st.sampled_from(["cross_entropy", "margin"]),
    "targeted": st.booleans(),
    "early_stop": st.booleans(),
    "seed": whole,
}
shares = st.floats(0, 1)


@settings(max_examples=100)
@given(
    st.one_of(
        st.builds(
            PGD,
            **attacks,
            steps=counts,
            step_size=st.none() | positive,
            restarts=counts,
            random_start=st.booleans(),
        ),
        st.builds(RandomSearch, **attacks, queries=counts),
        st.builds(Gaussian, std=st.floats(0, 1, exclude_min=True), seed=whole),
        st.builds(Gaussian, snr=st.floats(-50, 50), seed=whole),
        st.builds(SaltPepper, amount=shares, seed=whole),
    )
)
def test_a_threat_is_made_again_from_its_spec(threat: Any) -> None:
    assert THREATS.parse(threat.spec) == threat
    assert THREATS.spec(THREATS.parse(threat.spec)) == threat.spec


def test_a_spec_says_only_what_is_not_the_default() -> None:
    assert THINGS.spec(Thing(size=2 / 255)) == "thing:size=2/255"
    assert THINGS.spec(Thing(size=1.0, on=False, limit=0.5, inner=4)) == "thing:size=1,limit=0.5,on=false"
    assert THINGS.spec(Bare()) == "bare"


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("thing:2", Thing(2.0)),
        (" thing:8/255 ", Thing(8 / 255)),
        ("thing:1e-3,count=-4", Thing(0.001, -4)),
        ("thing:size = 1 , mode = slow", Thing(1.0, mode="slow")),
        ("thing:inf,limit=None,on=NO", Thing(math.inf, on=False)),
        ("thing:1,note=(a,b=c),count=1", Thing(1.0, 1, note="(a,b=c)")),
        ("thing:1,note=[a,(b,c)]", Thing(1.0, note="[a,(b,c)]")),
        ("thing:1,note=a:b=c", Thing(1.0, note="a:b=c")),
        ("bare", Bare()),
        ("bare:", Bare()),
    ],
)
def test_ways_to_write(spec: str, wanted: Any) -> None:
    assert THINGS.parse(spec) == wanted


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("thng:1", "no thing is called 'thng'; did you mean thing?"),
        ("zzz", "no thing is called 'zzz'; known: bare, thing"),
        ("", "no thing is called ''; known: bare, thing"),
        ("thing", "'thing' lacks size; it takes size=?, count=3, mode=fast, limit=none, on=true, note=x"),
        ("thing:1,cuont=2", "'thing:1,cuont=2' has no parameter 'cuont'; did you mean count? it takes size=?, count=3"),
        ("thing:1,q=2", "has no parameter 'q'; it takes size=?"),
        ("thing:1,inner=2", "has no parameter 'inner'"),
        ("bare:x=1", "'bare:x=1' has no parameter 'x'; it takes no parameters"),
        ("bare:1", "'1' in 'bare:1' has no name; write parameter=value"),
        ("thing:1,2", "'2' in 'thing:1,2' has no name; write parameter=value"),
        ("thing:1,size=2", "'thing:1,size=2' gives size twice; keep one"),
        ("thing:size=1,size=1", "gives size twice; keep one"),
        ("thing:abc", "size in 'thing:abc' is 'abc': a number, as 0.1 or 8/255"),
        ("thing:nan", "is 'nan': a number"),
        ("thing:1/0", "is '1/0': a number"),
        ("thing:1/2/3", "is '1/2/3': a number"),
        ("thing:1,count=2.5", "count in 'thing:1,count=2.5' is '2.5': a whole number"),
        ("thing:1,limit=many", "limit in 'thing:1,limit=many' is 'many': a number"),
        ("thing:1,mode=quick", "mode in 'thing:1,mode=quick' is 'quick': one of fast, slow"),
        ("thing:1,on=maybe", "on in 'thing:1,on=maybe' is 'maybe': true or false"),
        ("thing:1,note=(a", "the brackets in 'thing:1,note=(a' do not match; close each one that you open"),
        ("thing:1,note=a)", "do not match"),
        ("thing:1,note=)a(", "do not match"),
        ("thing:1,", "'thing:1,' has an empty parameter; write parameter=value, separated by commas"),
        ("thing:,", "has an empty parameter"),
        ("thing:size=", "has an empty parameter"),
        ("thing:=1", "has an empty parameter"),
    ],
)
def test_mistakes_and_their_remedies(spec: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        THINGS.parse(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_has_no_text_cannot_be_written() -> None:
    with pytest.raises(UserError, match="a Tensor cannot be written in a spec"):
        write_value(torch.tensor([0.1, 0.2]))
    with pytest.raises(UserError, match="a Tensor cannot be written in a spec"):
        _ = PGD(eps=torch.tensor([0.1, 0.2])).spec
    with pytest.raises(UserError, match="dict is not a registered thing"):
        THINGS.spec({})


def test_a_registry_knows_its_names() -> None:
    assert list(THINGS) == ["thing", "bare"]
    assert "thing" in THINGS
    assert "other" not in THINGS
    with pytest.raises(ValueError, match="thing 'thing' is registered already"):
        THINGS.register("thing")(Thing)


def test_parameters_are_described() -> None:
    first, second, *_ = parameters(Thing)
    assert first == Parameter("size", float, first.default, True, "how large")
    assert (str(first), str(second)) == ("size=?", "count=3")
    assert [p.name for p in parameters(Thing)] == ["size", "count", "mode", "limit", "on", "note"]


@pytest.mark.parametrize("name", list(THREATS))
def test_every_parameter_of_a_threat_has_help_and_a_default_that_reads_back(name: str) -> None:
    for one in parameters(THREATS[name]):
        assert one.help, f"{name}'s {one.name} says nothing of itself"
        if not one.required:
            again = read_value(write_value(one.default), one.type, one.name)
            assert again == one.default
            assert type(again) is type(one.default)


@given(st.lists(st.tuples(plain_words, plain_words), max_size=5))
def test_arguments_are_split_where_they_were_joined(pairs: list[tuple[str, str]]) -> None:
    text = ",".join(f"{name}={value}" for name, value in pairs)
    assert split_arguments(text, text) == pairs


quoted = st.text(st.characters(exclude_characters="?&", exclude_categories=["C"]), min_size=1)
names = st.text("abz_", min_size=1, max_size=6)
options = st.dictionaries(names, st.text(max_size=8), max_size=4)


@given(names, quoted, options)
def test_a_source_is_read_back_as_it_was(scheme: str, rest: str, given_options: dict[str, str]) -> None:
    source = Source(scheme, rest, given_options)
    assert Source.parse(str(source)) == source


def test_sources() -> None:
    assert Source.parse("folder:a/b?size=224&x=a%26b") == Source("folder", "a/b", {"size": "224", "x": "a&b"})
    assert Source.parse("a/b.npz") == Source("", "a/b.npz", {})
    assert Source.parse("hf:name?") == Source("hf", "name", {})
    with pytest.raises(UserError, match=r"'size' in 'a:b.size' is no option: options follow . as name=value"):
        Source.parse("a:b?size")
    with pytest.raises(UserError, match="folder: has no option 'sise'; did you mean size"):
        Source.parse("folder:x?sise=3").refuse_unknown("size", "limit")
    with pytest.raises(UserError, match="folder: has no option 'a'; it takes none"):
        Source.parse("folder:x?a=3").refuse_unknown()
    Source.parse("folder:x?size=3").refuse_unknown("size")
