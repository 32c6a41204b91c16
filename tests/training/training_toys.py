"""A small data set, a small network and small recipes, importable by processes of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.data import BrokenImageError, Data
from vallum.defences import Context, Losses, Plain, Recipe
from vallum.errors import UserError
from vallum.images import Batch, Draws, Task
from vallum.models import Model


class Dots(Data):
    """Noise with a bright quarter, which is the class; for a segmenter every pixel has it, but for an ignored rim."""

    spec = "dots"
    classes = ("top left", "top right", "bottom left", "bottom right")

    def __init__(
        self,
        n: int = 40,
        task: Task = Task.CLASSIFY,
        *,
        dtype: torch.dtype = torch.float32,
        whole: bool = False,
        broken: Sequence[int] = (),
        slow: float = 0.0,
    ) -> None:
        self.n, self.task, self.dtype, self.whole, self.broken, self.slow = n, task, dtype, whole, broken, slow
        self.reads = 0

    def __len__(self) -> int:
        return self.n

    def read(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self.broken:
            raise BrokenImageError(f"image {index} is broken")
        time.sleep(self.slow)
        self.reads += 1
        image = Draws(0, [index]).uniform(3, 8, 8, purpose="dots")[0] / 2
        down, right = divmod(index % 4, 2)
        image[:, 4 * down : 4 * down + 4, 4 * right : 4 * right + 4] += 0.5
        if self.whole:
            image = (image * 255).floor() / 255
        label = torch.tensor(index % 4)
        if self.task is Task.SEGMENT:
            label = F.pad(label.expand(6, 6), (1, 1, 1, 1), value=255)
        return image.to(self.dtype), label

    def identity(self, index: int) -> bytes:
        return str(index).encode()


class Net(Model):
    """A convolution, a norm, and a linear layer per image or per pixel."""

    def __init__(self, task: Task = Task.CLASSIFY, *, norm: str = "group", dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.task, self.classes = task, Dots.classes
        self.filters = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm == "batch" else nn.GroupNorm(2, 8)
        self.dropout = nn.Dropout(dropout)
        size = 8 * 4 if task is Task.CLASSIFY else 8
        self.head = nn.Conv2d(8, 4, 1) if task is Task.SEGMENT else nn.Linear(size, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.dropout(F.gelu(self.norm(self.filters(images))))  # (N, 8, H, W)
        if self.task is Task.SEGMENT:
            return self.head(features)
        return self.head(F.adaptive_avg_pool2d(features, 2).flatten(1))


class Bank(nn.Module):
    """One perturbation that is carried from step to step, and a trained scale."""

    perturbation: Tensor

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.register_buffer("perturbation", torch.zeros_like(image))
        self.scale = nn.Parameter(torch.ones((), dtype=image.dtype))


@dataclass(frozen=True)
class Shared(Recipe):
    """One perturbation shared by all images of a weight step, over parts and processes, from one step to the next."""

    size: float = 0.05

    @property
    def spec(self) -> str:
        return "shared"

    def companion(self, model: Model, images: Tensor) -> nn.Module:
        return Bank(images[0])

    def prepare(self, model: Model, batches: Sequence[Batch], context: Context) -> Sequence[Any]:
        bank: Any = context.companion
        shared = bank.perturbation.clone().requires_grad_()
        loss = sum(F.cross_entropy(model(b.images + shared), b.labels, reduction="sum") for b in batches)
        (gradient,) = torch.autograd.grad(loss, shared)
        step = context.sum_over_processes(gradient).sign() * self.size / 4
        bank.perturbation = (bank.perturbation + step).clamp(-self.size, self.size)
        return [(batch, bank.perturbation) for batch in batches]

    def step(self, model: Model, batch: Any, context: Context) -> Losses:
        images, shared = batch[0].images, batch[1]
        loss = F.cross_entropy(model(images + shared * context.companion.scale), batch[0].labels)
        return {"loss": loss, "longest": shared.abs().amax()}


@dataclass(frozen=True)
class Interrupted(Plain):
    """Plain training that fails before one weight step, or whose loss is NaN from there on."""

    fails: int | None = None
    nan: int | None = None

    @property
    def spec(self) -> str:
        return "interrupted"

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        if context.step == self.fails:
            raise InterruptedError(f"at step {context.step}")
        losses = super().step(model, batch, context)
        if self.nan is not None and context.step >= self.nan:
            losses["loss"] = losses["loss"] * float("nan")
        return losses


@dataclass(frozen=True)
class Mistaken(Plain):
    """A user's mistake that shows in one process only."""

    @property
    def spec(self) -> str:
        return "mistaken"

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        if context.offset:
            raise UserError("a mistake", remedy="mend it")
        return super().step(model, batch, context)
