"""`vallum list`: what there is, and what it takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

KINDS = ("models", "data", "clips", "threats", "defences", "tasks")


def listing(
    kind: Annotated[
        Literal["models", "data", "clips", "threats", "defences", "tasks", "all"], typer.Argument(help="What to list.")
    ] = "all",
) -> None:
    """List models, data, clips of video, threats, defences and self-supervised tasks, with what each takes.

    ```
    vallum list
    vallum list threats
    ```
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for one in KINDS if kind == "all" else (kind,):
        table = Table("name", "what it is", "takes", title=one, title_justify="left", show_lines=False)
        for name, what, takes in _entries(one):
            table.add_row(Text(name, "bold"), Text(what), Text(takes))
        console.print(table)


def _entries(kind: str) -> list[tuple[str, str, str]]:
    from vallum.specs import parameters

    if kind in ("threats", "defences", "tasks"):
        from vallum.defences import RECIPES
        from vallum.defences.self_supervision import TASKS
        from vallum.threats import THREATS

        registry: Any = {"threats": THREATS, "defences": RECIPES, "tasks": TASKS}[kind]
        return [
            (name, _first_line(registry[name]), "\n".join(f"{p}  {p.help}" for p in parameters(registry[name])))
            for name in registry
        ]
    if kind == "models":
        import vallum.defences
        from vallum.models import MODEL_SOURCES, builtin_names

        shipped = [(f"builtin:{name}", "shipped with vallum", "") for name in builtin_names()]
        return [*((f"{n}:", _first_line(MODEL_SOURCES[n]), "") for n in MODEL_SOURCES), *shipped]
    import vallum.defences  # noqa: F401  its import registers sources of images with patches on them
    from vallum.data import CLIP_SOURCES, DATA_SOURCES
    from vallum.data.request import COMMON

    if kind == "clips":
        everywhere = {name: COMMON[name] for name in ("size", "on_error")}
        return [
            (f"{n}:", _first_line(CLIP_SOURCES[n]), _options(CLIP_SOURCES.options[n] | everywhere))
            for n in CLIP_SOURCES
        ]
    return [(f"{n}:", _first_line(DATA_SOURCES[n]), _options(DATA_SOURCES.options[n] | COMMON)) for n in DATA_SOURCES]


def _options(takes: dict[str, str]) -> str:
    return "\n".join(f"?{name}=  {what}" for name, what in takes.items())


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().splitlines()[0] if thing.__doc__ else ""
