"""Options of a command made from a dataclass of settings, so that a new setting has its option and its help at once."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vallum.specs import Parameter, parameters, read_value


def takes_settings(settings: type, panel: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One option for each of the settings, in place of the command's own `**settings`."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in signature(command) if p.kind is not inspect.Parameter.VAR_KEYWORD]
        return with_signature(command, [*own, *(_option(one, panel) for one in parameters(settings))])

    return with_options


def read_settings(settings: type, given: dict[str, Any]) -> dict[str, Any]:
    """What such options say."""
    known = {p.name: p.type for p in parameters(settings)}
    return {
        name: value if isinstance(value, bool) else read_value(value, known[name], f"--{name.replace('_', '-')}")
        for name, value in given.items()
    }


def signature(command: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(command, eval_str=True).parameters.values())


def with_signature(command: Callable[..., None], options: list[inspect.Parameter]) -> Callable[..., None]:
    """Both places where typer looks."""
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in options}
    return command


def _option(setting: Parameter, panel: str | None) -> inspect.Parameter:
    """Numbers come as text, so that fractions as 1/255 and `none` are read as everywhere else."""
    is_flag = setting.type is bool
    default: Any = setting.default if is_flag else str(setting.default).lower()
    hint = bool if is_flag else str
    metavar = None if is_flag else _metavar(setting.type)
    option = typer.Option(help=setting.help, metavar=metavar, rich_help_panel=panel)
    name = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(setting.name, name, default=default, annotation=Annotated[hint, option])


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return {int: "INTEGER", float: "NUMBER"}[kinds[0]] + ("|none" if types.NoneType in kinds else "")
