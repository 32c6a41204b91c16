"""What somebody needs to know to repeat a run, or to doubt it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("vallum", "torch", "torchvision", "timm", "numpy", "scipy", "duckdb")


def environment(seconds: float, workers: int, notes: list[str]) -> dict[str, Any]:
    """Command, versions, hardware, time: what environment.json holds."""
    return {
        "command": _command(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "workers": workers,
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "notes": notes,
    }


def _command() -> str:
    """The command line as one would type it again; for a script its name alone."""
    program = Path(sys.argv[0])
    if program.name in ("vallum", "__main__.py"):
        return shlex.join(["vallum", *sys.argv[1:]])
    return program.name


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
