"""`vallum audit`: whether what attacks say of a model can be believed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from vallum.cli.options import (
    IMAGES,
    RUN,
    Classes,
    Device,
    Mean,
    Outputs,
    Quiet,
    Seed,
    Size,
    Std,
    TaskName,
    numbers,
)


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
    size: Size = None,
    task: TaskName = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    outputs: Outputs = "logits",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for audit.json; that of a run, and `vallum report` shows it there.", rich_help_panel=RUN
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave with 1 also where a check is doubtful.", rich_help_panel=RUN)
    ] = False,
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(help="Threads; 0: as many as torch takes.", rich_help_panel=RUN)] = 0,
    device: Device = "auto",
    quiet: Quiet = False,
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
