"""`vallum evaluate`: what is left of a model's accuracy under threats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

THREATS = ("gaussian:std=0.1", "salt_pepper:amount=0.02", "pgd:eps=4/255,steps=20")


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            help="One or several: `timm:resnet18?pretrained=true`, `my_pkg.nets:build`, `nets.py:build`, a folder that "
            "vallum saved, `builtin:signs_resnet`. NAME=SOURCE gives it a name in the tables.",
            metavar="MODEL...",
        ),
    ],
    data: Annotated[
        str, typer.Option(help="`folder:PHOTOS` (a folder per class), `npz:FILE`, `torchvision:CIFAR10?root=DIR`, ...")
    ] = "builtin:signs",
    threat: Annotated[
        list[str] | None,
        typer.Option(help=f"Repeat it for several; `vallum list threats` shows all. Default: {', '.join(THREATS)}."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; the same command with the same folder resumes it.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", help="How many images, drawn by the seed. Default: all.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of all randomness.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: as many as there are cores, or one on a GPU.")] = 0,
    threads: Annotated[int, typer.Option(help="Threads per process.")] = 1,
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:1`.")] = "auto",
    task: Annotated[str | None, typer.Option(help="`classify` or `segment`, where the source does not tell.")] = None,
    classes: Annotated[int | None, typer.Option(help="How many classes the model has, where it does not tell.")] = None,
    mean: Annotated[str | None, typer.Option(help="Normalisation of images in [0, 1], as `0.485,0.456,0.406`.")] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
    outputs: Annotated[str, typer.Option(help="What the model returns: `logits` or `probabilities`.")] = "logits",
    size: Annotated[str | None, typer.Option(help="Resize and crop images to this, as `224` or `64x192`.")] = None,
    on_error: Annotated[str, typer.Option(help="What to do with a broken image: `stop` or `skip`.")] = "stop",
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster that shares the run's folder.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.")] = False,
) -> None:
    """Measure what is left of a model's accuracy under noise and attack.

    Every rate carries its 95 % interval. The headline is the worst case over all attacks, per image. The run's
    folder holds a row per image (Parquet), summary.json and report.html.

    Examples:

        vallum evaluate builtin:signs_resnet builtin:signs_resnet_robust -n 500

        vallum evaluate timm:resnet18?pretrained=true --data folder:photos --size 224 --threat pgd:eps=1/255

        vallum evaluate nets.py:build --data npz:test.npz --threat gaussian:snr=20 --threat pgd:eps=0.5,norm=2
    """
    import os

    import torch

    import vallum
    from vallum.cli.table import print_run
    from vallum.errors import UserError
    from vallum.report import write_report

    if workers < 0:
        raise UserError(f"workers={workers}", "0 or more is needed")
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    count = workers or (1 if on_gpu else os.cpu_count() or 1)

    given: dict[str, Any] = {"task": task, "classes": classes, "mean": _numbers(mean, "--mean"), "std": _numbers(std, "--std")}
    named = {}
    for source in models:
        name, equals, rest = source.partition("=")
        named_by_user = equals and not any(mark in name for mark in ":/?.")
        label = name if named_by_user else source
        if label in named:
            raise UserError(f"two models are called {label}", remedy="name them: first=SOURCE second=SOURCE")
        named[label] = vallum.load_model(rest if named_by_user else source, outputs=outputs, **given)
    images = vallum.load_data(data, task=task, size=size, on_error=on_error)
    run = vallum.evaluate(
        named,
        images,
        threat or list(THREATS),
        out=out,
        n=n,
        batch_size=batch_size,
        seed=seed,
        workers=count,
        threads=threads,
        device=device,
        ray=ray,
        progress=not quiet,
    )
    page = write_report(run)
    if not quiet:
        print_run(run)
        typer.echo(f'\nReport: {page}\nRows:   vallum results {run.folder} --sql "SELECT * FROM rows LIMIT 5"')


def _numbers(text: str | None, option: str) -> list[float] | None:
    from vallum.specs import read_value

    return None if text is None else [read_value(part, float, option) for part in text.split(",")]
