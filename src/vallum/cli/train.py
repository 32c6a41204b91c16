"""`vallum train` and `vallum harden`: one training loop, without a defence and with one."""

from __future__ import annotations

import inspect
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from vallum.cli.options import numbers
from vallum.cli.settings import read_settings, signature, takes_settings, with_signature
from vallum.errors import UntrustedCodeError, UserError, printable
from vallum.specs import Source, read_value
from vallum.training.settings import Settings

DEFAULT = "builtin:signs"  # what `vallum evaluate` takes where nothing is said


@takes_settings(Settings)
def train(
    model: Annotated[
        str,
        typer.Argument(
            help="The network to train: `net:resnet`, `timm:resnet18?pretrained=true`, `nets.py:build`, or a folder "
            "that vallum saved.",
            metavar="MODEL",
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for the model, its checkpoints and log.csv; the same command resumes from it.")
    ],
    recipe: Annotated[str, typer.Option(help="What is learnt; `vallum list defences` shows all.")] = "plain",
    data: Annotated[
        str, typer.Option(help="`folder:PHOTOS` (a folder per class), `npz:FILE`, `builtin:signs?split=train`, ...")
    ] = "builtin:signs?split=train",
    validation: Annotated[
        str, typer.Option(help="Watch the training on this share of the images, held out, or on data as `npz:val.npz`.")
    ] = "0.1",
    device: Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda`, `cuda:1`.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many devices of this machine; torchrun decides it itself.")] = 1,
    size: Annotated[str | None, typer.Option(help="Resize and crop images to this, as `224` or `64x192`.")] = None,
    task: Annotated[str | None, typer.Option(help="`classify` or `segment`, where the data do not tell.")] = None,
    mean: Annotated[str | None, typer.Option(help="Normalisation of images in [0, 1], as `0.485,0.456,0.406`.")] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over, whatever the folder holds.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    **settings: Any,
) -> None:
    r"""Train a model, by default without any defence.

    Killed at any moment, the same command goes on from its last checkpoint to the same weights, bit for bit.

    A small network on images that vallum makes, and one of timm's on photos with a subfolder for each class:

    ```
    vallum train net:resnet --data "builtin:signs?split=train&n=30000" \
        --out runs/plain

    vallum train "timm:resnet18?pretrained=true" --data folder:photos \
        --size 224 --lr 0.01 --epochs 10 --out runs/photos
    ```
    """
    given: dict[str, Any] = {
        "data": data,
        "validation": validation,
        "size": size,
        "task": task,
        "mean": mean,
        "std": std,
    }
    _train(model, recipe, out, **given, device=device, devices=devices, fresh=fresh, quiet=quiet, **settings)
    _point_to(out, given, quiet)


def _train(
    model: str,
    recipe: str,
    out: Path,
    *,
    data: str,
    validation: str,
    size: str | None,
    task: str | None,
    mean: str | None,
    std: str | None,
    device: str,
    devices: int,
    fresh: bool,
    quiet: bool,
    compared: bool = False,
    **settings: Any,
) -> tuple[Any, Any, Any]:
    """The model before, where it is to be compared, the trained one, and the images that it did not learn from."""
    import torch

    import vallum
    from vallum.cli.bought import started_from
    from vallum.data.part import Part
    from vallum.training.loader import held_out
    from vallum.training.loop import train

    read = read_settings(Settings, settings)
    given = {"mean": numbers(mean, "--mean"), "std": numbers(std, "--std")}
    normalisation: dict[str, Any] = {name: values for name, values in given.items() if values is not None}
    images = vallum.load_data(data, task=task, size=size)
    try:
        watched: Any = read_value(validation, float, "--validation")
    except UserError:
        watched = vallum.load_data(validation, task=task, size=size)
    torch.manual_seed(read["seed"])  # a network that starts at random starts the same in each run
    network = vallum.load_model(model, classes=images.classes, task=images.task, **normalisation)
    how: dict[str, Any] = {"device": device, "devices": devices, "fresh": fresh, "quiet": quiet}
    before = started_from(network) if compared else None
    network = train(network, images, recipe, out=out, validation=watched, **how, **read)
    if isinstance(watched, float):
        indices = held_out(images, watched, read["seed"])[1]
        watched = Part(images, indices.tolist(), "held out") if len(indices) else None
    return before, network, watched


def _point_to(out: Path, given: dict[str, Any], quiet: bool) -> None:
    """How to evaluate it, on the kind of images that it was trained on."""
    if not quiet and _speaks():
        from vallum.models import load_model

        named = str(out)
        try:
            load_model(named)
        except UntrustedCodeError:
            named += "?trust=true"
        except UserError:
            pass  # the training itself went well, and whoever loads the folder is told what is missing
        words, known = _images(given)
        typer.echo(
            f"\nModel: {printable(str(out))}\nNext:  {printable(shlex.join(['vallum', 'evaluate', named, *words]))}"
        )
        if known:
            typer.echo("       with images that it has not learnt from, where you have some")


def _images(given: dict[str, Any]) -> tuple[list[str], bool]:
    """Options that name images to evaluate on, and whether they are those that were learnt from."""
    try:
        read_value(given["validation"], float, "--validation")
        text, learnt = given["data"], True
    except UserError:
        text, learnt = given["validation"], False
    if "split=train" in text:  # every source that has splits takes another one by default
        text, learnt = str(Source.parse(text).but(split=None, n=None)), False
    words = [] if text == DEFAULT else ["--data", text]
    for name in ("size", "task"):
        words += [f"--{name}", given[name]] if given[name] is not None else []
    return words, learnt


def _speaks() -> bool:
    """Under torchrun, one speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def harden(**given: Any) -> None:
    r"""Train a model, a fresh or a trained one, with a defence, and say at the end what that bought.

    Killed at any moment, the same command goes on from its last checkpoint to the same weights, bit for bit.
    The short evaluation at the end, of the model before and after on images that were held out, is kept in the
    folder's `evaluation/`.

    A model that `vallum train` left, and what a function of yours returns:

    ```
    vallum harden runs/plain --with adversarial:eps=4/255,steps=3 \
        --lr 0.02 --epochs 10 --out runs/robust

    vallum harden nets.py:build --data npz:train.npz \
        --with shared_training:eps=8/255,sharedness=64 --out runs/robust
    ```
    """
    from vallum.cli import bought
    from vallum.defences import recipe

    wanted, spec, model = read_value(given.pop("evaluate"), int, "--evaluate"), given.pop("with_"), given.pop("model")
    out, quiet = given.pop("out"), given["quiet"]
    if wanted < 0:
        raise UserError(f"--evaluate {wanted}", "0 or more images are needed")
    before, network, watched = _train(model, spec, out, **given, compared=bool(wanted))
    if wanted and _speaks():
        seed = int(read_value(given["seed"], int, "--seed"))
        how: dict[str, Any] = {"n": wanted, "seed": seed, "device": given["device"], "quiet": quiet}
        bought.evaluate(before, network, watched, recipe(spec), out, **how)
    _point_to(out, given, quiet)


_WITH = Annotated[
    str,
    typer.Option(
        "--with", help="The defence, as `adversarial:eps=8/255`; `vallum list defences` shows all.", metavar="DEFENCE"
    ),
]
_EVALUATE = Annotated[
    str,
    typer.Option(
        "--evaluate",
        help="Images, of those held out, for the short evaluation at the end; 0: none.",
        metavar="INTEGER",
    ),
]
_DEFENCE = inspect.Parameter("with_", inspect.Parameter.KEYWORD_ONLY, annotation=_WITH)
_AFTER = inspect.Parameter("evaluate", inspect.Parameter.KEYWORD_ONLY, default="200", annotation=_EVALUATE)
with_signature(harden, [*(_DEFENCE if p.name == "recipe" else p for p in signature(train)), _AFTER])
