"""Marks of code: they change with what runs, and with nothing else, in whichever process."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from vallum.marks import is_own, mark_of
from vallum.own_code import find
from vallum.threats import THREATS

CODE = """
import functools
import math
from dataclasses import dataclass
from enum import Enum
import beside

WORDS = {"one", "two", "three"}
SETTINGS = {"eps": 0.5, "words": WORDS}

class Kind(Enum):
    A = 1

@dataclass(frozen=True)
class Step:
    size: float = 1.0
    def of(self, x): return x * self.size * SETTINGS["eps"]

class Base:
    def half(self, x): return x / 2

class Attack(Base):
    factor = 3
    @property
    def steps(self): return twice(self.factor)
    @staticmethod
    def loud(x): return x in {"a", "b", "c"}
    def __call__(self, model, images, labels): return Step().of(self.half(images)) if Kind.A else super().half(images)

@functools.cache
def twice(x): return 2 * x

def nested(model, images, labels):
    def inner(x): return deep(x)
    return inner(images)

def deep(x): return beside.far(x) + nested(0, 0, 0)

def late(model, images, labels):
    import lately
    return lately.shift(images)

def other(model, images, labels): return images
"""
BESIDE = {"beside": "def far(x): return nearer(x)\ndef nearer(x): return x + 1\n", "lately": "def shift(x): return x\n"}
NAMES = ("Attack", "nested", "late", "other")
EDITS = {  # file, what is there, what comes in its place: which marks change
    ("mine", "import math", "# a comment\nimport math"): set(),
    ("mine", '"eps": 0.5', '"eps": 0.25'): {"Attack"},
    ("mine", '"three"', '"four"'): {"Attack"},
    ("mine", "size: float = 1.0", "size: float = 2.0"): {"Attack"},
    ("mine", "x / 2", "x / 3"): {"Attack"},
    ("mine", "factor = 3", "factor = 4"): {"Attack"},
    ("mine", "2 * x", "3 * x"): {"Attack"},
    ("mine", '"c"}', '"d"}'): {"Attack"},
    ("mine", "return deep(x)", "return deep(-x)"): {"nested"},
    ("beside", "x + 1", "x + 2"): {"nested"},
    ("lately", "return x", "return -x"): {"late"},
    ("mine", "return images", "return -images"): {"other"},
}


def marks(folder: Path, seed: int = 0) -> dict[str, str]:
    """Of all names in CODE, in a process of its own, where sets have an order of their own."""
    code = (
        "from vallum.own_code import find\nfrom vallum.marks import mark_of\n"
        f"for name in {NAMES}: print(name, mark_of(find('mine.py', name, 'attack')))"
    )
    environment = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=environment, check=True
    )
    return dict(line.split() for line in said.stdout.splitlines())


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_a_mark_is_the_same_in_every_process(tmp_path: Path) -> None:
    one, other = (write(tmp_path / name, {"mine": CODE, **BESIDE}) for name in ("one", "other"))
    assert marks(one, 1) == marks(other, 2)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("marks"), {"mine": CODE, **BESIDE})


def in_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.syspath_prepend(folder)
    for name in BESIDE:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return {name: mark_of(find(str(folder / "mine.py"), name, "attack")) for name in NAMES}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit[2])
def test_a_mark_changes_with_what_runs(
    edit: tuple[str, str, str], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = in_here(here, monkeypatch)
    where, old, new = edit
    files = {"mine": CODE, **BESIDE}
    assert old in files[where]
    files[where] = files[where].replace(old, new)
    after = in_here(write(tmp_path / "edited", files), monkeypatch)
    assert {name for name in NAMES if after[name] != before[name]} == EDITS[edit]


def test_a_file_that_was_edited_is_run_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(THREATS, "_entries", dict(THREATS._entries))  # what is registered here is gone afterwards
    file = tmp_path / "registers.py"
    code = (
        "from dataclasses import dataclass\nfrom vallum.threats import THREATS, Threat\n"
        "@THREATS.register('edited_here')\n@dataclass(frozen=True)\n"
        "class Edited(Threat):\n    seed: int = 0\n    kind = 'noise'\n    by = 1\n"
    )
    file.write_text(code)
    first = find(str(file), "Edited", "threat")
    assert find(str(file), "Edited", "threat") is first, "it is run once"
    file.write_text(code.replace("by = 1", "by = 2"))
    again: Any = find(str(file), "Edited", "threat")
    assert again.by == 2
    assert mark_of(again) != mark_of(first)
    file.write_text(code.replace("class Edited", "class Other"))
    with pytest.raises(ValueError, match="registered already"):
        find(str(file), "Other", "threat")


def test_objects_and_values() -> None:
    def by(factor: float) -> Any:
        return lambda image: image * factor

    class Held:
        def __init__(self, value: Any) -> None:
            self.value = value

        def go(self) -> None: ...

    things = [
        by(1.0), by(2.0), functools.partial(by, 1.0), functools.partial(by, factor=1.0), Held(1).go, Held(2).go,
        Held([1]), Held({1}), Held({"a": 1}), torch.zeros(2), torch.ones(2), torch.zeros(2).double(), torch.bfloat16,
        torch.tensor([0.5], dtype=torch.bfloat16), Held, Path("a"), Path("b"), Held(Held(1)), Held(Held(2)),
    ]  # fmt: skip
    assert len({mark_of(one) for one in things}) == len(things)
    assert mark_of(by(2.0)) == mark_of(by(2.0))
    loop = Held(None)
    loop.value = loop
    assert mark_of(loop)
    assert [is_own(one) for one in (Held, by, nn.Linear, find, Path, ModuleType)] == [True, True] + [False] * 4
