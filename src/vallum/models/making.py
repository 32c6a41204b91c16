"""What every source shares when another package builds its network."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from vallum.errors import UserError
from vallum.torchvision_shim import ensure_torchvision

_ONLY_TENSORS = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def need(package: str, extra: str = "") -> ModuleType:
    """Import `package`, or say what to install."""
    ensure_torchvision()
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        name = f"vallum[{extra}]" if extra else package
        raise UserError(f"{package} is not installed", remedy=f"pip install '{name}'") from None


@contextmanager
def making(what: str, remedy: str = "") -> Iterator[None]:
    """Turn the failures of another package's constructor into one line, and keep its downloads from running code."""
    # Checkpoints that packages fetch for themselves may be pickles; torch then reads tensors from them, nothing else.
    before = os.environ.get(_ONLY_TENSORS)
    os.environ[_ONLY_TENSORS] = "1"
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        remedy = remedy or "check the network, or give the weights as ?weights=FILE.safetensors"
        raise UserError(f"{what} cannot be fetched", first_line(error), remedy) from error
    except (TypeError, ValueError, LookupError, RuntimeError, AssertionError, AttributeError, ImportError) as error:
        raise UserError(f"{what} cannot be built", first_line(error), "check its name and its options") from error
    finally:
        if before is None:
            del os.environ[_ONLY_TENSORS]
        else:
            os.environ[_ONLY_TENSORS] = before


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, cut to a readable length."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = next(iter(text.strip().splitlines()), "") or type(error).__name__
    return line if len(line) <= 300 else line[:300] + "..."
