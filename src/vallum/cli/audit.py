"""`vallum audit`: whether what attacks say of a model can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

MODEL, IMAGES, RUN = "The model", "Images and attack", "The run"  # panels of the help


def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="As for `vallum evaluate`: `nets.py:build`, `timm:...`, a folder that vallum saved, "
            "`builtin:signs_resnet`. What a function of yours returns may be a Defence.",
            metavar="MODEL",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="`folder:PHOTOS` (a folder per class), `npz:FILE`; `vallum list data` shows all.",
            rich_help_panel=IMAGES,
        ),
    ] = "builtin:signs",
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            help="How many images, drawn by the seed. Default: 64, or fewer where a defence has many surfaces.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    eps: Annotated[str, typer.Option(help="Radius of the attack in doubt.", rich_help_panel=IMAGES)] = "8/255",
    norm: Annotated[
        Literal["inf", "2", "1"], typer.Option(help="In which it is measured.", rich_help_panel=IMAGES)
    ] = "inf",
    steps: Annotated[int, typer.Option(help="Of the attack in doubt.", rich_help_panel=IMAGES)] = 20,
    surrogate: Annotated[
        str | None,
        typer.Option(help="Another model for these classes, to carry attacks over from.", rich_help_panel=IMAGES),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Resize and crop images to this, as `224` or `64x192`.", rich_help_panel=IMAGES),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="`classify` or `segment`, where the sources do not tell.", rich_help_panel=MODEL),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="How many classes it has, where it does not tell.", rich_help_panel=MODEL)
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Normalisation of images in [0, 1], as `0.485,0.456,0.406`.", rich_help_panel=MODEL),
    ] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.", rich_help_panel=MODEL)] = None,
    outputs: Annotated[
        str, typer.Option(help="What it returns: `logits` or `probabilities`.", rich_help_panel=MODEL)
    ] = "logits",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for audit.json; that of a run, and `vallum report` shows it there.", rich_help_panel=RUN
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave with 1 also where a check is doubtful.", rich_help_panel=RUN)
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of all randomness.", rich_help_panel=RUN)] = 0,
    threads: Annotated[int, typer.Option(help="Threads; 0: as many as torch takes.", rich_help_panel=RUN)] = 0,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:1`.", rich_help_panel=RUN)] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.", rich_help_panel=RUN)] = False,
) -> None:
    r"""Doubt what an attack says of a model.

    Each check does something of which the outcome is known if all is well, and says what it did, what it saw, and
    what to do. The exit code is 0 where none failed, 1 where one did, 2 for a mistake in the command.

    A model that vallum ships; then one of yours, in a build that shall stop where its numbers cannot be trusted:

    ```
    vallum audit builtin:signs_resnet_robust

    vallum audit nets.py:build --data npz:test.npz --eps 4/255 \
        --strict --out runs/first
    ```
    """
    import torch

    import vallum
    from vallum.cli.evaluate import numbers
    from vallum.cli.table import print_audit
    from vallum.errors import UserError, printable
    from vallum.specs import read_value

    if threads < 0:
        raise UserError(f"threads={threads}", "0 or more is needed")
    if threads:
        torch.set_num_threads(threads)
    radius = read_value(eps, float, "--eps")
    images = vallum.load_data(data, task=task, size=size)
    loaded = vallum.load_model(
        model, task=task, classes=classes, outputs=outputs, mean=numbers(mean, "--mean"), std=numbers(std, "--std")
    )
    report = vallum.audit(
        loaded,
        images,
        eps=radius,
        norm=norm,
        steps=steps,
        n=n,
        seed=seed,
        surrogate=surrogate,
        name=model,
        device=device,
        out=out,
        progress=not quiet,
    )
    if not quiet:
        print_audit(report)
        if out is not None:
            typer.echo(f"\nWritten: {printable(str(out / 'audit.json'))}")
    if report.verdict == "failed" or (strict and report.verdict == "doubtful"):
        raise typer.Exit(1)
