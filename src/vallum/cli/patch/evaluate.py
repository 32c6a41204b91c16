"""`vallum patch evaluate`: what patches are worth, beside everything that would gain as much without helping to see."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vallum.cli.options import IMAGES, RUN, Device, Quiet, Seed, Size, numbers
from vallum.errors import UserError, printable

AGAINST, DEAR = "What it is held against", "What takes long"


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Patches, as `vallum patch make` left them.", metavar="FOLDER")],
    *,
    models: Annotated[
        list[str],
        typer.Option(
            "--models",
            "--model",
            help="The models that they were made on, one or several after the name.",
            metavar="MODEL...",
            rich_help_panel=IMAGES,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command resumes it.", rich_help_panel=RUN)],
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Models that they were not made on: only there does it show whether they transfer. One of another "
            "kind should be among them, as a ViT.",
            metavar="MODEL...",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    data: Annotated[
        str, typer.Option(help="Images that no patch was made on.", rich_help_panel=IMAGES)
    ] = "builtin:signs",
    n: Annotated[
        int, typer.Option("--n", "-n", help="How many of them, drawn by the seed.", rich_help_panel=IMAGES)
    ] = 400,
    size: Size = None,
    corruption: Annotated[
        list[str] | None,
        typer.Option(
            help="What befalls the image with the patch on it, as `fog:3`. Default: nine, at severities 3 and 5.",
            metavar="THREAT...",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            help="On all pixels, on the object's alone and on the patch's. Default: `pgd:eps=4/255,steps=20,"
            "loss=margin`; `strong:eps=4/255` finds more and takes longer.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    radii: Annotated[
        str | None,
        typer.Option(
            help="Further radii of the attack, with commas. Default: `1/255,2/255,8/255,32/255`.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Other patches, as `universal=FOLDER`: those of an earlier method, one for all classes.",
            metavar="NAME=FOLDER...",
            rich_help_panel=AGAINST,
        ),
    ] = None,
    marker: Annotated[
        Literal["aruco", "qr", "none"],
        typer.Option(
            help="What else could print the label on no more area: a QR code takes many pixels.",
            rich_help_panel=AGAINST,
        ),
    ] = "aruco",
    few: Annotated[
        int,
        typer.Option(
            help="Of how many images what is dear is measured: attacks, each patch on each image, label-free "
            "rules, patches askew.",
            rich_help_panel=DEAR,
        ),
    ] = 129,
    each_patch: Annotated[
        bool, typer.Option(help="Every patch on every one of those images: who hijacks whom.", rich_help_panel=DEAR)
    ] = True,
    retrain: Annotated[
        int,
        typer.Option(
            help="Let each model learn for so many epochs from images with their patches, for comparison.",
            metavar="EPOCHS",
            rich_help_panel=DEAR,
        ),
    ] = 0,
    left_out: Annotated[
        int,
        typer.Option(
            help="Make the patches anew without each model in turn, in so many steps: who transfers to whom.",
            metavar="STEPS",
            rich_help_panel=DEAR,
        ),
    ] = 0,
    train_data: Annotated[
        str | None, typer.Option(help="Images for the last two, other than those judged on.", rich_help_panel=DEAR)
    ] = None,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(help="Images per batch.", rich_help_panel=RUN)] = 128,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    r"""Judge patches: what they gain, and whether that is more than a printed label would.

    Whoever sticks the right patch on an object tells the model its class. So accuracy with the right patch says
    nothing alone. It is shown beside no patch, grey, random colours, the patch without any object, the patch of
    another class (how often that hijacks the answer), rules that use patches without being told a class, and
    machines that only read labels, on the same images with the same noise. *Selectivity*, right with its own patch
    minus hijacked by another's, leads the table. Attacks go through the patch: all pixels, the object, the patch.

    ```
    vallum patch make builtin:signs_resnet --out runs/patches
    vallum patch evaluate runs/patches --models builtin:signs_resnet \
        --held-out builtin:signs_vit --data builtin:signs --out runs/judged
    vallum report runs/judged
    ```

    Beside one patch for all classes, which can print no label, and with every pair of models for transfer:

    ```
    vallum patch make builtin:signs_resnet --maker universal --out runs/one
    vallum patch evaluate runs/patches --beside universal=runs/one \
        --models builtin:signs_resnet builtin:signs_resnet_robust \
        --held-out builtin:signs_vit --left-out 200 \
        --train-data "builtin:signs?split=train" --out runs/judged
    ```
    """
    import vallum
    from vallum.cli.table import print_rates
    from vallum.evaluation.patches import evaluate_patches
    from vallum.evaluation.patches.judging import ATTACK, CORRUPTIONS, RADII
    from vallum.report import write_report

    sets = {}
    for text in beside or []:
        name, equals, place = text.partition("=")
        if not equals or not name or not place:
            raise UserError(f"--beside {text!r}", "a name and a folder", "--beside universal=runs/one")
        sets[name] = place
    more: dict[str, Any] = {
        "radii": numbers(radii, "--radii") if radii is not None else RADII, "marker": marker, "n": n, "few": few,
        "each_patch": each_patch, "retrain": retrain, "train_data": train_data, "left_out": left_out, "seed": seed,
        "batch_size": batch_size, "device": device, "progress": not quiet,
    }  # fmt: skip
    judged = evaluate_patches(
        folder, models, vallum.load_data(data, size=size), out=out, held_out=held_out or (), beside=sets,
        corruptions=corruption or CORRUPTIONS, attack=attack or ATTACK, **more,
    )  # fmt: skip
    page = write_report(judged.run)
    if not quiet:
        print_rates(judged.headlines)
        for sentence in judged.says:
            typer.echo(printable(sentence))
        again = shlex.join(["vallum", "report", str(out), "--format", "markdown"])
        typer.echo(f"\nReport: {printable(str(page))}\nTables: {printable(again)}")
