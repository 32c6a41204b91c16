"""What several commands ask for in the same words."""

from __future__ import annotations

from typing import Annotated

import typer

MODEL, IMAGES, RUN = "The model", "Images and threats", "The run"  # panels of the help

Size = Annotated[
    str | None, typer.Option(help="Resize and crop images to this, as `224` or `64x192`.", rich_help_panel=IMAGES)
]
TaskName = Annotated[
    str | None, typer.Option(help="`classify` or `segment`, where the sources do not tell.", rich_help_panel=MODEL)
]
Classes = Annotated[
    int | None, typer.Option(help="How many classes it has, where it does not tell.", rich_help_panel=MODEL)
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Normalisation of images in [0, 1], as `0.485,0.456,0.406`: of the models that bring none of their own. "
        "For one of several: `nets.py:build?mean=0.5&std=0.25`.",
        rich_help_panel=MODEL,
    ),
]
Std = Annotated[str | None, typer.Option(help="As --mean.", rich_help_panel=MODEL)]
Outputs = Annotated[str, typer.Option(help="What it returns: `logits` or `probabilities`.", rich_help_panel=MODEL)]
Seed = Annotated[int, typer.Option(help="Of the draw of images and of all randomness.", rich_help_panel=RUN)]
Device = Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:1`.", rich_help_panel=RUN)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.", rich_help_panel=RUN)]


def numbers(text: str | None, option: str) -> list[float] | None:
    """Several numbers with commas between them, where the option is given."""
    from vallum.specs import read_numbers

    return None if text is None else read_numbers(text, option)
