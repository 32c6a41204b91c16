"""The command `vallum`: a thin face on functions that a notebook can call.

Nothing heavy is imported here, or at the top of a command's module, so that --help answers at once.
"""

from __future__ import annotations

import sys

import typer

from vallum.errors import UserError, printable

app = typer.Typer(
    name="vallum",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    help="""Measure how robust a vision model really is, harden it, and show honestly what that bought.

    Start with `vallum evaluate --help`, or with `vallum list` to see what there is.""",
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
    """Exit with 0 when done, with 2 and one line for a user's mistake, with 1 for a fault of ours."""
    try:
        app()
    except UserError as mistake:
        print(f"vallum: {printable(str(mistake))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("vallum: interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `vallum results ... | head`
        sys.stderr.close()
        sys.exit(0)


def _register() -> None:
    from vallum.cli import doctor, evaluate, listing, report, results, train

    for command in (evaluate.evaluate, train.train, train.harden, report.report, results.results):
        app.command()(command)
    app.command("list")(listing.listing)
    app.command()(doctor.doctor)


_register()
