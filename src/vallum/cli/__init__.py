"""The command `vallum`: a thin face on functions that a notebook can call.

Nothing heavy is imported here, or at the top of a command's module, so that --help answers at once.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from vallum.errors import UserError, printable


class _Commands(TyperGroup):
    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:  # here, because outside of it typer has made a silent exit of it
            said = "interrupted; what was finished is kept, the same command goes on from there"
            print(f"vallum: {said}", file=sys.stderr)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    name="vallum",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="""Measure how robust a vision model really is, harden it, and show honestly what that bought.

    ```
    vallum evaluate builtin:signs_resnet -n 500 --out runs/first
    vallum results runs/first
    vallum harden builtin:signs_resnet --with adversarial:eps=4/255 --out runs/robust
    ```

    Each command shows examples of its own with `--help`; `vallum list` shows what there is.""",
)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and leave.", is_eager=True),
) -> None:
    if show:
        from vallum import __version__

        typer.echo(f"vallum {__version__}")
        raise typer.Exit()


def main() -> None:
    """Exit with 0 when done, with 2 and one line for a user's mistake, with 1 for a fault of ours.

    An exception out of the user's own code is theirs.
    """
    try:
        app(prog_name="vallum")
    except UserError as problem:
        mistake = problem
    except Exception as problem:
        from vallum.faults import in_own_code

        found = in_own_code(problem)
        if found is None:
            raise
        mistake = found
    else:
        return
    print(f"vallum: {printable(str(mistake))}", file=sys.stderr)
    sys.exit(2)


def _register() -> None:
    from vallum.cli import audit, certify, doctor, evaluate, listing, patch, report, results, train, tune

    for command in (
        evaluate.evaluate,
        audit.audit,
        train.train,
        train.harden,
        tune.tune,
        certify.certify,
        report.report,
        results.results,
    ):
        app.command()(command)
    app.add_typer(patch.patch)
    app.command("list")(listing.listing)
    app.command()(doctor.doctor)


_register()
