"""What is written into a run's folder comes back as it was, or is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_sections import sections

from vallum.errors import UserError
from vallum.evaluation.sections import (
    KINDS,
    Audit,
    Check,
    Line,
    Matrix,
    Rates,
    Section,
    Tradeoff,
    Universal,
    read,
    write,
)


def same(one: Section, other: Section) -> bool:
    if isinstance(one, Universal) and isinstance(other, Universal):
        plain = {**vars(one), "perturbation": 0} == {**vars(other), "perturbation": 0}
        return plain and bool((one.perturbation == other.perturbation).all())
    return one == other


def test_each_kind_comes_back_as_it_was(tmp_path: Path) -> None:
    made = sections()
    assert {section.kind for section in made} == set(KINDS)
    for section in reversed(made):
        write(tmp_path, section)
    found = read(tmp_path)
    assert all(same(one, other) for one, other in zip(found, made, strict=True))


def test_the_same_title_replaces_and_another_does_not(tmp_path: Path) -> None:
    for title, value in (("one/..", 0.1), ("one/..", 0.2), ("One ..", 0.3)):
        write(tmp_path, Matrix(title, "a", "b", ("r",), ("c",), ((value,),)))
    found = {section.title: section.values for section in read(tmp_path) if isinstance(section, Matrix)}
    assert found == {"one/..": ((0.2,),), "One ..": ((0.3,),)}
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "sections"}


def test_a_run_without_sections_has_none(tmp_path: Path) -> None:
    assert read(tmp_path) == []


WRONG = {
    "its axis has 2": lambda: Tradeoff("t", "k", (1.0, 2.0), (Line("a", (0.1,)),)),
    "numbers are finite": lambda: Tradeoff("t", "k", (1.0,), (Line("a", (float("nan"),)),)),
    "holds NaN": lambda: Universal("t", np.full((3, 2, 2), np.inf), 0.1, "inf", 0.5, 8),
    "has shape": lambda: Universal("t", np.zeros((2, 2)), 0.1, "inf", 0.5, 8),
    "1 rows of 2 are needed": lambda: Matrix("t", "a", "b", ("r",), ("c", "d"), ((0.1,),)),
    "the numbers of 't' do not fit": lambda: Rates(
        "t", "a", ("r",), ("c", "d"), ((0.1, 0.2),), ((0.1,),), ((0.2, 0.3),)
    ),
    "passed, doubtful or failed": lambda: Audit("t", (Check("a", "b", "c", "fine"),)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_drawn_is_refused(said: str) -> None:
    with pytest.raises(UserError, match=said):
        WRONG[said]()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": "matrix"}', '{"kind": "tradeoff", "title": 3}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, sections()[0])
    path.write_text(content)
    with pytest.raises(UserError, match=r"audit-.*\.json is damaged"):
        read(tmp_path)
