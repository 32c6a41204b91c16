"""The one door: strings, options and what they become again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vallum
from vallum.data import DATA_SOURCES, Request, load_data
from vallum.errors import UserError
from vallum.images import Task
from vallum.specs import Source

LETTERS = "a1 ,;&?=%#+/:é\n\x1b<\"'"


@given(
    request=st.builds(
        Request,
        task=st.sampled_from([None, *Task]),
        classes=st.none() | st.lists(st.text(LETTERS, min_size=1)).map(tuple).filter(bool),
        size=st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999)),
        channels=st.sampled_from([None, 1, 3]),
        on_error=st.sampled_from(["stop", "skip"]),
    ),
    root=st.text(LETTERS),
)
def test_a_request_survives_its_spec(request: Request, root: str) -> None:
    source = Source("torchvision", "CIFAR10", {"root": root})
    again, rest = Request().updated_from(Source.parse(request.spec(source)))
    assert (again, rest) == (request, source)


def test_what_python_says_goes_before_what_the_string_says(photos: Path) -> None:
    data = load_data(f"{photos}?size=9&on_error=skip", size="5x7")
    assert data.read(0)[0].shape == (3, 5, 7)
    assert data.spec == f"folder:{photos}?size=5x7&on_error=skip"


def test_a_spec_loads_the_same_data_in_another_process(photos: Path) -> None:
    data = load_data(photos, size=4, classes=["dog", "cat"], on_error="skip")
    code = f"from vallum.data import load_data; print(load_data({data.spec!r}).fingerprint(range(3)))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == data.fingerprint(range(3))


def test_built_in_worlds() -> None:
    data = load_data("builtin:signs?n=20&seed=3&split=val", size=48)
    assert (len(data), data.batch([0]).images.shape, len(data.classes)) == (20, (1, 3, 48, 48), 43)
    assert load_data(data.spec).fingerprint([5]) == data.fingerprint([5])
    assert load_data(data.spec).fingerprint([5]) != load_data("builtin:signs?n=20&split=val&size=48").fingerprint([5])
    for text, message in (
        ("builtin:sings", "did you mean signs"),
        ("builtin:signs?m=3", "known: n, seed, size, split"),
        ("builtin:signs?n=many", "a whole number"),
        ("builtin:signs?size=32x64", "write size=32"),
        ("builtin:signs?channels=1", "signs is in colour"),
        ("builtin:signs?task=segment", "task=segment was asked for"),
        ("builtin:signs?classes=4", "name them all"),
    ):
        with pytest.raises(UserError, match=message):
            load_data(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the empty string does not exist"),
        ("photoz", r"photoz does not exist: a folder, a zip, an \.npz file, or a source: .*folder:\.\.\."),
        ("fodler:photos", "did you mean folder"),
        ("folder:nowhere", r"nowhere does not exist.*you are in"),
        ("folder:" + "x" * 5000, "does not exist"),
        ("npz:nowhere.npz", "does not exist"),
        ("python:MyDataset", "pass the object itself"),
        (".?size=big", "write 224 or 64x192"),
        (".?size=0", "write 224 or 64x192"),
        (".?size=4x4x4", "write 224 or 64x192"),
        (".?on_error=ignore", "one of stop, skip"),
        (".?channels=2", "one of 1, 3"),
        (".?task=detect", "one of classify, segment"),
        (".?classes=cat,,dog", "write classes=cat,dog"),
        (".?depth=3", "has no option 'depth'"),
        (".?size", "options follow"),
    ],
)
def test_strings_that_say_nothing_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        load_data(text)


def test_every_source_says_in_one_line_what_it_is() -> None:
    assert set(DATA_SOURCES) >= {"folder", "npz", "torchvision", "hf", "cityscapes", "camvid", "builtin"}
    for name in DATA_SOURCES:
        first = (DATA_SOURCES[name].__doc__ or "").splitlines()[0]
        assert 20 < len(first) <= 120, name
        assert f"{name}:" in first


def test_what_is_optional_is_not_imported_before_it_is_used() -> None:
    code = (
        "import sys, vallum.data\n"
        "print([name for name in ('torchvision', 'datasets', 'timm', 'vallum.data.worlds') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_face_has_it() -> None:
    assert vallum.load_data is load_data
