"""The one exception that speaks to a user: what was wrong, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake that its maker can mend; the command line prints it on its own, without a traceback, and exits with 2.

    >>> raise UserError("eps is -1", "it must be positive", "write eps=8/255")
    Traceback (most recent call last):
    vallum.errors.UserError: eps is -1: it must be positive; write eps=8/255
    """

    def __init__(self, wrong: str, expected: str = "", remedy: str = "") -> None:
        self.wrong, self.expected, self.remedy = wrong, expected, remedy
        super().__init__(wrong, expected, remedy)  # all three in args, so that it survives pickling between processes

    def __str__(self) -> str:
        return "; ".join(part for part in (": ".join(p for p in (self.wrong, self.expected) if p), self.remedy) if part)


class UntrustedCodeError(UserError):
    """A saved folder names code that builds it, and nobody said that it may be run.

    >>> UntrustedCodeError("this saved model is built by running code: nets.py:net").expected
    'code in a folder from somebody else can do anything'
    """

    def __init__(self, wrong: str, *_: str) -> None:
        super().__init__(
            wrong,
            "code in a folder from somebody else can do anything",
            "if you trust it, say so: load_model(folder, trust=True), or FOLDER?trust=true",
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy for a name that is not known: the nearest ones, or all there are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if known else "none is registered"


def a(thing: object) -> str:
    """The name of its type, with its article.

    >>> a(3), a("three")
    ('an int', 'a str')
    """
    name = type(thing).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def printable(text: str) -> str:
    r"""Text that cannot steer a terminal: control characters, escapes among them, are written out.

    >>> printable("sign\x1b[31m.png")
    'sign\\x1b[31m.png'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
