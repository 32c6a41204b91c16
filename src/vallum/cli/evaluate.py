"""`vallum evaluate`: what is left of a model's accuracy under threats."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

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
from vallum.errors import UserError, printable

THREATS = ("gaussian:std=0.1", "salt_pepper:amount=0.02", "pgd:eps=4/255,steps=20")


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="One or several: `timm:resnet18?pretrained=true`, `my_pkg.nets:build`, `nets.py:build`, a folder that "
            "vallum saved, `builtin:signs_resnet`. NAME=SOURCE gives it a name in the tables.",
            metavar="MODEL",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="`folder:PHOTOS` (a folder per class), `npz:FILE`, `torchvision:CIFAR10?root=DIR`; "
            "`vallum list data` shows all.",
            rich_help_panel=IMAGES,
        ),
    ] = "builtin:signs",
    threat: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Repeat it for several; `vallum list threats` shows all. Default: {', '.join(THREATS)}.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", help="How many images, drawn by the seed. Default: all.", rich_help_panel=IMAGES),
    ] = None,
    size: Size = None,
    on_error: Annotated[
        str, typer.Option(help="What to do with a broken image: `stop` or `skip`.", rich_help_panel=IMAGES)
    ] = "stop",
    task: TaskName = None,
    classes: Classes = None,
    mean: Mean = None,
    std: Std = None,
    outputs: Outputs = "logits",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run; the same command with the same folder resumes it. Default: a folder in `runs/`.",
            rich_help_panel=RUN,
        ),
    ] = None,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(help="Images per batch.", rich_help_panel=RUN)] = 64,
    workers: Annotated[
        int,
        typer.Option(help="Processes; 0: as many as there are cores, or one on a GPU.", rich_help_panel=RUN),
    ] = 0,
    threads: Annotated[int, typer.Option(help="Threads per process.", rich_help_panel=RUN)] = 1,
    device: Device = "auto",
    adaptive: Annotated[
        Literal["default", "full"],
        typer.Option(help="Surfaces on which a defence is attacked: `full` adds the dear ones.", rich_help_panel=RUN),
    ] = "default",
    draws: Annotated[
        int, typer.Option(help="How often a defence that draws at random is asked.", rich_help_panel=RUN)
    ] = 10,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Measure a defence at each setting of one of its knobs, as `sigma=0:0.5:0.05` or `draws=1,4,16`.",
            rich_help_panel=RUN,
        ),
    ] = None,
    undefended: Annotated[
        bool,
        typer.Option(help="Measure beside each defence the bare model beneath it.", rich_help_panel=RUN),
    ] = True,
    ray: Annotated[
        str | None,
        typer.Option(help="Address of a Ray cluster that shares the run's folder.", rich_help_panel=RUN),
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="Of how many images to keep pictures for the report.", rich_help_panel=RUN)
    ] = 24,
    quiet: Quiet = False,
) -> None:
    r"""Measure what is left of a model's accuracy under noise and attack.

    Every rate carries its 95 % interval. The headline is the worst case over all attacks, per image. The run's
    folder holds a row per image (Parquet), summary.json and report.html.

    Two models that vallum ships, on 500 of its images:

    ```
    vallum evaluate builtin:signs_resnet builtin:signs_resnet_robust -n 500
    ```

    A network of timm, on a folder of photos with a subfolder for each class:

    ```
    vallum evaluate "timm:resnet18?pretrained=true" --data folder:photos \
        --size 224 --threat pgd:eps=1/255
    ```

    What a function of yours returns, on arrays, under noise and under an attack:

    ```
    vallum evaluate mine=nets.py:build --data npz:test.npz \
        --threat gaussian:snr=20 --threat pgd:eps=0.5,norm=2
    ```

    A defence whose strength can be chosen, at each of several strengths:

    ```
    vallum evaluate runs/hardened -n 200 --sweep sigma=0:0.5:0.1
    ```
    """
    import torch

    import vallum
    from vallum.cli.loading import load, named_in
    from vallum.cli.table import first_rows, print_run
    from vallum.report import write_report

    if workers < 0:
        raise UserError(f"workers={workers}", "0 or more is needed")
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    count = workers or (1 if on_gpu else os.cpu_count() or 1)

    wanted = [vallum.threat(one) for one in threat or THREATS]  # a slip here shows before anything is loaded
    given: dict[str, Any] = {"task": task, "classes": classes, "outputs": outputs}
    named, kept = load(named_in(models), numbers(mean, "--mean"), numbers(std, "--std"), given)
    if kept and not quiet:
        whose = "which brings its own" if len(kept) == 1 else "which bring their own"
        typer.echo(printable(f"--mean and --std are not applied to {' and '.join(kept)}, {whose} normalisation"))
    images = vallum.load_data(data, task=task, size=size, on_error=on_error)
    how: dict[str, Any] = {
        "out": out, "n": n, "batch_size": batch_size, "seed": seed, "workers": count, "threads": threads,
        "device": device, "ray": ray, "adaptive": adaptive, "draws": draws, "undefended": undefended,
        "pictures": pictures, "progress": not quiet,
    }  # fmt: skip
    measure = vallum.evaluate if sweep is None else _sweep(sweep)
    run = measure(named, images, wanted, **how)
    page = write_report(run)
    if not quiet:
        print_run(run)
        rows = shlex.join(["vallum", "results", str(run.folder), "--sql", first_rows(run)])
        typer.echo(f"\nReport: {printable(str(page))}\nRows:   {printable(rows)}")


def _sweep(text: str) -> Any:
    from vallum.evaluation.sweep import read_sweep, sweep

    knob, settings = read_sweep(text)

    def measure(named: dict[str, Any], images: Any, wanted: Any, **how: Any) -> Any:
        if len(named) != 1:
            raise UserError(f"--sweep with {len(named)} models", "it takes one", "run it for each")
        ((name, model),) = named.items()
        return sweep(model, images, wanted, knob, settings, name=os.path.basename(name.rstrip("/")), **how)

    return measure
