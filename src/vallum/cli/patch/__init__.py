"""`vallum patch`: stickers around an object that help models see what it is."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# Imported when one is asked for: their options are made from dataclasses of the family, which imports torch.
COMMANDS = {
    "make": "vallum.cli.patch.make:make",
    "evaluate": "vallum.cli.patch.evaluate:evaluate",
    "print": "vallum.cli.patch.printing:print_",
    "rectify": "vallum.cli.patch.rectify:rectify",
    "chart": "vallum.cli.patch.chart:chart",
    "fit-printer": "vallum.cli.patch.fit_printer:fit_printer",
}
SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "rich_markup_mode": "markdown",
}


class Listing(TyperCommand):
    """A command whose repeatable options take several values after one name: --models A B is --models A --models B."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {name for one in self.params if getattr(one, "multiple", False) for name in one.opts}
        spread: list[str] = []
        for place, text in enumerate(args):
            current = next((one for one in reversed(args[:place]) if one.startswith("-")), "")
            if current in several and not text.startswith("-") and args[place - 1] != current:
                spread.append(current)
            spread.append(text)
        return super().parse_args(ctx, spread)


class _Later(TyperGroup):
    def list_commands(self, context: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        module, _, function = COMMANDS[name].partition(":")
        one = typer.Typer(pretty_exceptions_enable=False, **SETTINGS)
        one.command(name, cls=Listing)(getattr(importlib.import_module(module), function))
        return typer.main.get_command(one)


patch = typer.Typer(
    cls=_Later,
    name="patch",
    no_args_is_help=True,
    help="""Make stickers around an object that help models see what it is, and judge them.

    ```
    vallum patch make builtin:signs_resnet --out runs/patches
    vallum patch evaluate runs/patches --models builtin:signs_resnet \\
        --held-out builtin:signs_vit --out runs/judged
    vallum patch print runs/patches --object-width 600mm --out runs/print
    vallum patch rectify photos/*.jpg --sheet runs/print --out runs/photos
    ```
    """,
    **SETTINGS,
)


@patch.callback()
def what_to_do() -> None:
    """Without one of its own a group that has no command yet would not be one."""


__all__ = ["patch"]
