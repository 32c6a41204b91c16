"""Finding the logits in what a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vallum.errors import UserError, a
from vallum.images import Task

KEYS = ("logits", "out", "output", "outputs", "pred", "prediction")  # Hugging Face, torchvision, and common habit


def find_tensor(output: Any) -> Tensor:
    """The tensor of logits inside a tensor, an array, a dict, a tuple, or an object with `.logits`.

    >>> find_tensor({"aux": torch.zeros(1), "out": torch.ones(1, 2)}).shape
    torch.Size([1, 2])
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, np.ndarray):
        return torch.from_numpy(output)
    if isinstance(output, Mapping):  # Hugging Face's outputs are mappings too, with a loss before the logits
        for key in KEYS:
            if output.get(key) is not None:
                return find_tensor(output[key])
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        if len(tensors) == 1:
            return tensors[0]
        raise UserError(
            f"the model returns a dict with {', '.join(map(str, output)) or 'nothing in it'}",
            f"one of {', '.join(KEYS)} holds the logits",
            "wrap the model in a module that returns them",
        )
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, tuple | list) and output:
        return find_tensor(output[0])
    raise UserError(f"the model returns {a(output)}", "a tensor of logits is needed", "wrap it in a module that does")


def as_logits(output: Any, task: Task, outputs: str, size: torch.Size) -> Tensor:
    """Logits (N, K), or (N, K, H, W) at the images' own size, at least in float32, from whatever the network returned.

    A single logit z becomes two, 0 and z, whose softmax is its sigmoid. Probabilities become their logarithm.
    """
    logits = find_tensor(output)
    if not logits.is_floating_point():
        raise UserError(
            f"the model returns {logits.dtype}",
            "logits are floats; these look like predicted labels",
            "return what stands before the argmax",
        )
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if task is Task.CLASSIFY and logits.ndim == 4 and logits.shape[-2:] == (1, 1):
        logits = logits.flatten(1)  # a fully convolutional classifier
    if logits.ndim == (1 if task is Task.CLASSIFY else 3):
        logits = logits[:, None]  # a single logit whose axis was squeezed away
    if logits.ndim != (2 if task is Task.CLASSIFY else 4):
        raise UserError(
            f"the model's output has shape {tuple(logits.shape)}",
            "a classifier gives (N, K), a segmenter (N, K, H, W)",
            "say which with task='classify' or task='segment'",
        )
    if task is Task.SEGMENT and logits.shape[-2:] != size:  # SegFormer and others answer at a quarter of the size
        logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
    if logits.shape[1] == 1:
        zero = 1 - logits if outputs == "probabilities" else torch.zeros_like(logits)
        logits = torch.cat([zero, logits], 1)
    if outputs == "probabilities":
        logits = logits.clamp_min(torch.finfo(logits.dtype).tiny).log()
    return logits
