"""What somebody needs to know of this machine to repeat what was done on it, or to doubt it."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("vallum", "torch", "torchvision", "timm", "numpy", "scipy", "duckdb")


def command() -> str:
    """The command line as one would type it again; for a script its name alone."""
    program = Path(sys.argv[0])
    if program.name in ("vallum", "__main__.py"):
        return shlex.join(["vallum", *sys.argv[1:]])
    return program.name


def machine() -> dict[str, Any]:
    """Versions and hardware.

    >>> machine()["versions"]["vallum"]
    '0.1.0'
    """
    import torch  # here, so that the command line can ask for its own name without waiting

    return {
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def version_of(package: str) -> str | None:
    """What is installed of a package, None where it is not."""
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
