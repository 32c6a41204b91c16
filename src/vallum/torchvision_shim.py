"""Making a torchvision that was built for CUDA importable beside a PyTorch without it.

Such a torchvision cannot load its compiled operators, and then stops its own import, and that of timm and of
segmentation-models-pytorch, because it annotates two of them unconditionally. Declaring those two is all it takes:
what this project uses of it is plain Python.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Literal

import torch

_MISSING = ("nms", "qnms")
_declared: list[torch.library.Library] = []  # a declaration lasts as long as its library object


@functools.cache
def ensure_torchvision() -> Literal["healthy", "repaired", "absent"]:
    """Call it before the first import of torchvision, timm or segmentation-models-pytorch; again costs nothing.

    >>> state = ensure_torchvision()
    >>> ensure_torchvision() == state
    True
    """
    found = importlib.util.find_spec("torchvision")
    if found is None:
        return "absent"
    for folder in found.submodule_search_locations or []:
        for compiled in (path for path in Path(folder).glob("_C*") if path.suffix in (".so", ".pyd", ".dylib", ".dll")):
            try:
                torch.ops.load_library(compiled)
                return "healthy"
            except OSError:  # it wants CUDA libraries that this PyTorch does not have
                continue
    missing = [name for name in _MISSING if not hasattr(torch.ops.torchvision, name)]
    if not missing:  # somebody else has declared them
        return "healthy"
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in missing:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return "repaired"
