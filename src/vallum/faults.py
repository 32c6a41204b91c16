"""Whose fault an exception is: where code of the user's own raised it, a line says where, without a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

from vallum.errors import UserError
from vallum.marks import is_installed

VALLUM = str(Path(__file__).parent)


def in_own_code(error: Exception) -> UserError | None:
    """The same as a user's mistake, if the innermost code that is neither installed nor Python's is the user's.

    >>> in_own_code(ValueError("raised nowhere")) is None
    True
    """
    if isinstance(error, UserError | MemoryError):
        return None
    places = [
        (frame.filename, frame.lineno, f", in {frame.name}") for frame in traceback.extract_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno, ""))
    theirs = [place for place in places if place[0].startswith(VALLUM) or _is_own(place[0])]
    if not theirs or theirs[-1][0].startswith(VALLUM):
        return None
    file, line, where = theirs[-1]
    said = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return UserError(f"{file}, line {line}{where}", f"{type(error).__name__}: {said}".removesuffix(": "))


def _is_own(file: str) -> bool:
    return Path(file).is_file() and not is_installed(file)
