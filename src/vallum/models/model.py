"""The one shape that a model has for everything above, whatever it was before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Task
from vallum.marks import mark_of
from vallum.models.outputs import as_logits

PER_CHANNEL = float | Sequence[float]


class Model(nn.Module):
    """A classifier or a segmenter: images in [0, 1] in, logits out.

    Logits are (N, K) for Task.CLASSIFY and (N, K, H, W) for Task.SEGMENT. Normalisation lives inside. Subclass it, or
    let `vallum.load_model` wrap what you have.
    """

    task: Task = Task.CLASSIFY
    task_known: bool = True  # False: nobody has said it, and the data may
    classes: tuple[str, ...] | None = None  # None until the first batch tells how many there are
    spec: str = ""  # the string that loads it again, empty for an object made in Python
    build: str = ""  # the source that makes its architecture, without its weights; empty where there is none
    size: tuple[int, int] | None = None  # the image size it wants, where it wants one
    differentiable: bool = True  # False: only attacks that need no gradient run
    remarks: tuple[str, ...] = ()  # what a reader of its numbers should know; `check_model` hands them on

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What a saved folder must say, besides the weights, to make this model again.

        A model around a model gives the inner one's facts, and a `build` that holds the inner one's as an option.
        """
        return {"build": self.build, "task": self.task, "classes": self.classes, "size": self.size}

    def settle_task(self, task: Task) -> None:
        """Take the task of the data where nobody has said the model's; a model that is for another is refused."""
        if self.task == task:
            return
        if self.task_known:
            raise UserError(
                f"it is to {self.task}, the data to {task}",
                remedy=f"if that is what the model does, say so: load_model(..., task={str(task)!r}), --task {task} "
                "in a command; or take other data",
            )
        for part in self.modules():  # a defence has the task of the model that it is around
            if isinstance(part, Model):
                part.task = task

    @property
    def device(self) -> torch.device:
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device


class Wrapped(Model):
    """Any network as a Model: normalises its input, and finds the logits in whatever it returns.

    >>> model = Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), mean=[0.5] * 3, std=[0.25] * 3)
    >>> model(torch.rand(4, 3, 2, 2)).shape
    torch.Size([4, 2])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        task: Task | None = None,
        classes: Sequence[str] | int | None = None,
        mean: PER_CHANNEL = 0.0,
        std: PER_CHANNEL = 1.0,
        outputs: str = "logits",
        size: tuple[int, int] | None = None,
        build: str = "",
    ) -> None:
        super().__init__()
        if outputs not in ("logits", "probabilities"):
            raise UserError(f"outputs={outputs!r}", "one of 'logits', 'probabilities'", "say what the network returns")
        self.network, self.outputs, self.fingerprint = network, outputs, outputs
        self.task, self.task_known = Task(task or Task.CLASSIFY), task is not None
        self.build, self.size, self.classes = build, size, class_names(classes)
        shift, scale = (torch.as_tensor(value, dtype=torch.float32).flatten().cpu() for value in (mean, std))
        for name, numbers in (("mean", shift), ("std", scale)):
            if not numbers.numel() or not bool(numbers.isfinite().all()):
                raise UserError(f"{name}={numbers.tolist()}", "one finite number, or one per channel")
            if bool((numbers > 2).any()):
                raise UserError(
                    f"{name}={numbers.tolist()} is in units of 0..255", "vallum's images are in [0, 1]", "divide by 255"
                )
        if bool((scale <= 0).any()):
            raise UserError(f"std={std} is not positive", remedy="pass the standard deviation per channel, as 0.229")
        if len({shift.numel(), scale.numel()} - {1}) > 1:
            raise UserError(f"mean={mean} and std={std} differ in length", "one number per channel, the same for both")
        device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
        self.register_buffer("mean", shift.view(1, -1, 1, 1).to(device), persistent=False)
        self.register_buffer("std", scale.view(1, -1, 1, 1).to(device), persistent=False)
        self._identity = not bool(shift.any()) and bool((scale == 1).all())
        self.training = network.training  # not self.train(): that would change the modes inside the network

    def forward(self, images: Tensor) -> Tensor:
        inputs = images if self._identity else self._normalised(images)
        weight = next((p for p in self.network.parameters() if p.is_floating_point()), images)
        output = self.network(inputs.to(weight.dtype))  # a network in half precision is met in half precision
        return as_logits(output, self.task, self.outputs, images.shape[-2:])

    def facts(self) -> dict[str, Any]:
        numbers = {"mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}
        return {**super().facts(), **numbers, "outputs": self.outputs}

    def _normalised(self, images: Tensor) -> Tensor:
        channels = max(self.mean.numel(), self.std.numel())
        if channels not in (1, images.shape[1]):  # broadcasting would turn a grey image into three channels unasked
            raise UserError(
                f"the images have {images.shape[1]} channel(s), the model's mean and std {channels}",
                remedy="load the images with as many channels as the model takes, or give other mean= and std=",
            )
        return (images - self.mean) / self.std


class Function(nn.Module):
    """A plain callable as a network: no parameters, nothing to train."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        self.fingerprint = f"{name} {mark_of(function)}"
        self.eval()

    def forward(self, images: Tensor) -> Any:
        return self.function(images)


def class_names(classes: Sequence[str] | int | None) -> tuple[str, ...] | None:
    """The names of classes given as names, or as how many there are.

    >>> class_names(3), class_names(["cat", "dog"])
    (('0', '1', '2'), ('cat', 'dog'))
    """
    if classes is None:
        return None
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if isinstance(classes, str) or len(names) < 2:
        raise UserError(f"classes={classes!r}", "two or more names, or how many there are")
    return names
