"""`vallum certify`: what is proven of a model behind noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vallum.cli.options import Device, Quiet, Size, numbers


def certify(
    model: Annotated[
        str, typer.Argument(help="A model hardened with noisy_modelling: a folder, `builtin:NAME`.", metavar="MODEL")
    ],
    data: Annotated[str, typer.Option(help="As for `vallum evaluate`.")] = "builtin:signs",
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command goes on there.")] = Path(
        "runs/certificate"
    ),
    sigma: Annotated[
        str | None, typer.Option(help="Noise, one or several as `0.1,0.25`. Default: the defence's own.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", "-n", help="How many images, drawn by the seed; all where there are fewer.")
    ] = 100,
    draws: Annotated[int, typer.Option(help="Of noise per image; more of them prove larger radii.")] = 1000,
    first: Annotated[int, typer.Option(help="Draws that choose the class, before those that prove it.")] = 100,
    alpha: Annotated[float, typer.Option(help="How likely a certificate may be wrong.")] = 0.001,
    size: Size = None,
    seed: Annotated[int, typer.Option(help="Of the draw of images and of all noise.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Draws per batch: memory is that of one batch.")] = 256,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    r"""Prove how far images may be moved without changing the answer (randomised smoothing).

    The answer is the vote over all noise; the radius is in the norm 2. Where the draws do not say enough, it abstains.

    ```
    vallum certify runs/hardened -n 200 --draws 10000 --sigma 0.1,0.25 \
        --out runs/certificate
    ```
    """
    import vallum
    from vallum.evaluation.certify import certify

    levels = numbers(sigma, "--sigma")
    images = vallum.load_data(data, size=size)
    n = None if n is None else min(n, len(images))
    found = certify(
        model, images, out=out, sigma=levels, n=n, draws=draws, first=first, alpha=alpha, seed=seed,
        batch_size=batch_size, device=device, progress=not quiet,
    )  # fmt: skip
    if quiet:
        return
    from rich.console import Console
    from rich.table import Table

    from vallum.cli.table import in_per_cent

    table = Table(title="certified accuracy in per cent, with 95 % intervals", title_justify="left")
    table.add_column("radius (norm 2)")
    for level in found.sigmas:
        table.add_column(f"sigma={level:g}", justify="right")

    for radius in found.radii(9):
        table.add_row(f"{radius:.3f}", *(in_per_cent(found.accuracy(radius, level)) for level in found.sigmas))
    table.add_row("abstained", *(in_per_cent(found.abstained(level)) for level in found.sigmas))
    Console().print(table)
