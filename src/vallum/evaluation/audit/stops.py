"""Finding the places in a forward pass where the gradient stops."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from vallum.models.model import Model
from vallum.threats.search import frozen

_STEPS = ("round", "floor", "ceil", "trunc", "sign", "heaviside", "fix")  # their gradient is zero wherever it exists
_OUT = ("detach", "detach_", "numpy", "item", "tolist", "__array__")
_HERE = Path(__file__).parent
_TORCH = Path(torch.__file__).parent


def stops(model: Model, images: Tensor) -> list[str]:
    """What stops the gradient on its way from the answers to the images, and in which line: as 'detach in f, x.py:3'.

    >>> from vallum.models.model import Wrapped
    >>> stops(Wrapped(torch.nn.Flatten()), torch.rand(1, 3, 2, 2))
    []
    """
    point = images.detach().clone().requires_grad_()
    with frozen(model), _Watching() as watching:
        model(point)
    return list(watching.met)


class _Watching(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.met: dict[str, None] = {}  # a set that keeps its order

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with_gradient = torch.is_grad_enabled()
        out = func(*args, **(kwargs or {}))
        if not any(isinstance(one, Tensor) and one.requires_grad for one in tree_leaves((args, kwargs))):
            return out
        name = getattr(func, "__name__", str(func))
        floats = isinstance(out, Tensor) and out.is_floating_point()
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            self.note("data")
        elif name in _OUT or name.rstrip("_") in _STEPS:
            self.note(name)
        elif floats and not with_gradient and not out.requires_grad:
            self.note("no_grad")
        elif isinstance(out, Tensor) and not floats and name in ("to", "int", "long", "byte", "short", "type", "char"):
            self.note(f"a cast to {str(out.dtype).removeprefix('torch.')}")
        return out

    def note(self, what: str) -> None:
        for frame in reversed(traceback.extract_stack()):
            path = Path(frame.filename)
            if path.parent != _HERE and _TORCH not in path.parents:
                kind = f"{what} in {frame.name}, {path.name}"
                if not any(said.startswith(f"{kind}:") for said in self.met):  # one line of a function is enough
                    self.met[f"{kind}:{frame.lineno}"] = None
                return
