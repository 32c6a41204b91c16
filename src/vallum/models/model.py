"""The one shape that a model has for everything above, whatever it was before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Task
from vallum.models.outputs import as_logits


class Model(nn.Module):
    """A classifier or a segmenter: images in [0, 1] in, logits out.

    Logits are (N, K) for Task.CLASSIFY and (N, K, H, W) for Task.SEGMENT. Normalisation lives inside. Subclass it, or
    let `vallum.load_model` wrap what you have.
    """

    task: Task = Task.CLASSIFY
    classes: tuple[str, ...] | None = None  # None until the first batch tells how many there are
    spec: str = ""  # the string that loads it again, empty for an object made in Python
    size: tuple[int, int] | None = None  # the image size it wants, where it wants one
    differentiable: bool = True  # False: only attacks that need no gradient run

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        tensor = next(self.parameters(), None)
        tensor = next(self.buffers(), None) if tensor is None else tensor
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
        task: Task = Task.CLASSIFY,
        classes: Sequence[str] | int | None = None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        outputs: str = "logits",
        spec: str = "",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if outputs not in ("logits", "probabilities"):
            raise UserError(f"outputs={outputs!r}", "one of 'logits', 'probabilities'", "say what the network returns")
        self.network, self.task, self.outputs, self.spec, self.size = network, Task(task), outputs, spec, size
        self.classes = tuple(map(str, range(classes))) if isinstance(classes, int) else classes and tuple(classes)
        tensor = next(network.parameters(), torch.empty(0))
        for name, value in (("mean", mean), ("std", std)):
            numbers = torch.as_tensor(value, dtype=torch.float32).flatten()
            if bool((numbers > 2).any()):
                raise UserError(
                    f"{name}={value} is in units of 0..255", "vallum's images are in [0, 1]", "divide by 255"
                )
            self.register_buffer(name, numbers.view(1, -1, 1, 1).to(tensor.device), persistent=False)
        if bool((self.std <= 0).any()):
            raise UserError(f"std={std} is not positive", remedy="pass the standard deviation per channel, as 0.229")
        self._identity = not bool(self.mean.any()) and bool((self.std == 1).all())
        self.train(network.training)  # a wrapper neither hides nor changes the mode that its network is in

    def forward(self, images: Tensor) -> Tensor:
        inputs = images if self._identity else (images - self.mean) / self.std
        return as_logits(self.network(inputs), self.task, self.outputs, images.shape[-2:])
