"""The command line, called in this process: importing torch takes seconds, a command on toys a fraction of one."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from dataclasses import dataclass
from unittest import mock

import vallum.cli


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def refuses(self, words: str) -> None:
        """Assert that a user's mistake was answered: code 2 and one line that says it."""
        assert self.code == 2, self.out + self.err
        assert self.err.startswith("vallum: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        assert words in self.err, self.err
        assert "Traceback" not in self.out + self.err
        assert "\x1b" not in self.out + self.err
        assert not self.out


def command(*arguments: object) -> Said:
    """`vallum ARGUMENTS`, with what it printed and its exit code: 1, with the traceback, for a fault of ours."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["vallum", *map(str, arguments)]
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            vallum.cli.main()
            code = 0
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        except Exception:
            traceback.print_exc()  # as the interpreter does for what nobody catches
            code = 1
    return Said(code, out.getvalue(), err.getvalue())
