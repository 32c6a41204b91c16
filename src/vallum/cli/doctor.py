"""`vallum doctor`: what is installed, and whether it works."""

from __future__ import annotations

import typer

PACKAGES = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning-fabric", "safetensors",
    "duckdb", "numpy", "scipy", "pillow",
)  # fmt: skip
EXTRAS = {
    "hf": "transformers",
    "onnx": "onnx2torch",
    "ray": "ray",
    "tensorboard": "tensorboard",
    "patches": "reportlab",
}


def doctor() -> None:
    """Say what is installed, which devices there are, and whether it works.

    The exit code is 1 if something that is needed is missing or broken.

    ```
    vallum doctor
    ```
    """
    import os
    import platform

    from rich.console import Console
    from rich.table import Table

    from vallum.machine import version_of

    table = Table("what", "found", "remedy", show_header=False)
    broken = False

    table.add_row("vallum", version_of("vallum") or "not installed", "")
    table.add_row("Python", platform.python_version(), "")
    for package in PACKAGES:
        version = version_of(package)
        broken |= version is None
        table.add_row(package, version or "missing", "" if version else f"pip install {package}")

    import torch

    from vallum.torchvision_shim import ensure_torchvision

    state = ensure_torchvision()
    try:
        import torchvision  # noqa: F401

        table.add_row("torchvision imports", f"yes ({state})", "")
    except (ImportError, RuntimeError) as problem:
        broken = True
        remedy = "install the torchvision that matches your torch"
        table.add_row("torchvision imports", f"no: {str(problem).splitlines()[0]}", remedy)
    table.add_row("cores", f"{os.cpu_count()}, torch uses {torch.get_num_threads()} threads", "")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    table.add_row("GPUs", ", ".join(gpus) or "none: everything runs on the CPU", "")
    for extra, package in EXTRAS.items():
        version = version_of(package)
        table.add_row(
            f"extra {extra}", version or "not installed", "" if version else f'pip install "vallum\\[{extra}]"'
        )
    Console().print(table)
    if broken:
        raise typer.Exit(1)
