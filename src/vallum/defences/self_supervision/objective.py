"""Several tasks at once: their heads on one frozen backbone, their losses for each image, and what is clean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vallum.defences.self_supervision.backbone import Features, Layout
from vallum.defences.self_supervision.tasks.base import SelfTask
from vallum.images import Draws

Reader = Callable[[Tensor, bool], Features]  # with only the map, or with all
Weights = Literal["standard", "equal", "paper"]
Combine = Literal["sum", "grad_norm", "pcgrad"]
EXAMPLES = 256  # clean images of which the features are kept
SHARES = 101  # quantiles that are kept: 0 %, 1 % ... 100 %


class Objective(nn.Module):
    """Tasks and what they have learnt; once settled also how clean images do at each of them."""

    mean: Tensor  # (T,) of the losses of clean images
    std: Tensor
    quantiles: Tensor  # (T, 101)
    examples: Tensor  # (256, D) pooled features of clean images, for an attacker to aim at
    example_classes: Tensor  # (256,) what the model takes them for

    def __init__(self, tasks: Sequence[SelfTask], layout: Layout) -> None:
        super().__init__()
        self.tasks, self.layout = tuple(tasks), layout
        self.heads = nn.ModuleDict({task.name: task.head(layout) for task in self.tasks})
        count = len(self.tasks)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.register_buffer("quantiles", torch.full((count, SHARES), -torch.inf))
        self.register_buffer("examples", torch.zeros(EXAMPLES, layout.pooled))
        self.register_buffer("example_classes", torch.full((EXAMPLES,), -1))
        self._fixed: dict[int, list[Any]] = {}  # what is drawn where all images and all calls meet the same draws

    @property
    def settled(self) -> bool:
        """Whether it is known how clean images do."""
        return bool(self.quantiles.isfinite().all())

    def draw(self, draws: Draws) -> list[Any]:
        """What each task draws for one step."""
        return [task.draw(draws, self.layout) for task in self.tasks]

    def fixed(self, step: int) -> list[Any]:
        """The same draws for every image and every call, others at each step."""
        if step not in self._fixed:
            with torch.inference_mode(False):  # for gradients too, whoever asks first
                self._fixed[step] = self.draw(Draws(0, [0], f"self-supervision/step {step}"))
        return self._fixed[step]

    def losses(
        self, backbone: Reader, images: Tensor | Sequence[Tensor], drawn: list[Any], learning: bool = False
    ) -> Tensor:
        """(N, T): what each image loses at each task.

        The looks of all tasks go through the backbone as one batch, and those of which nothing but the map is read as
        another, which ends there. Where each task gets images of its own no look is shared.
        """
        apart = not isinstance(images, Tensor)
        given = [images] * len(self.tasks) if isinstance(images, Tensor) else list(images)
        n, looks, names = len(given[0]), dict[str, Tensor](), list[dict[str, str]]()
        for task, own, chance in zip(self.tasks, given, drawn, strict=True):
            shown = task.looks(own, chance)
            names.append({name: f"{task.name}: {name}" if apart else name for name in shown})
            looks |= {names[-1][name]: look for name, look in shown.items() if names[-1][name] not in looks}
        whole = {
            key for task, known in zip(self.tasks, names, strict=True) if not task.map_alone for key in known.values()
        }
        seen: dict[str, Features] = {}
        for map_alone in (False, True):
            some = [key for key in looks if (key not in whole) is map_alone]
            if some:
                features = backbone(torch.cat([looks[key] for key in some]), map_alone)
                seen |= {key: features.rows(place * n, (place + 1) * n) for place, key in enumerate(some)}
        found = []
        for task, own, chance, known in zip(self.tasks, given, drawn, names, strict=True):
            mine = {name: seen[key] for name, key in known.items()}
            head = self.heads[task.name]
            found.append((task.learning if learning else task.losses)(head, mine, own, chance))
        return torch.stack(found, 1)

    def weights(self, how: Weights) -> Tensor:
        """(T,) by which losses are multiplied: by the deviation of clean ones, equal, or as in the published code."""
        if how == "standard":
            return 1 / self.std
        return torch.tensor([1.0 if how == "equal" else task.paper_weight for task in self.tasks]).to(self.std)

    def standardised(self, losses: Tensor) -> Tensor:
        """(N, T) how many deviations above the mean of clean images."""
        return (losses - self.mean) / self.std

    def below(self, losses: Tensor, share: float) -> Tensor:
        """(N,) whether an image does as well at every task as this share of clean images does at each."""
        place = torch.tensor([share], dtype=torch.float64).mul(SHARES - 1).clamp(0, SHARES - 1)
        low = int(place)
        high, between = min(low + 1, SHARES - 1), float(place) - low
        line = self.quantiles[:, low].lerp(self.quantiles[:, high], between)
        return (losses <= torch.where(line.isnan(), self.quantiles[:, low], line)).all(1)

    def descent(
        self,
        backbone: Reader,
        images: Tensor,
        drawn: list[Any],
        weights: Weights,
        combine: Combine,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The gradient that all tasks together have at the images, and the losses there (N, T).

        One pass forwards and one back, whatever is made of the tasks' gradients: each task has a copy of the images.
        """
        factors = self.weights(weights)
        if combine == "sum":
            losses = self.losses(backbone, images, drawn)
            (gradient,) = torch.autograd.grad((losses * factors).sum(), images, create_graph=create_graph)
            return gradient, losses
        copies = [images.clone() for _ in self.tasks]
        losses = self.losses(backbone, copies, drawn)
        total = (losses * factors).sum()
        each = torch.stack(torch.autograd.grad(total, copies, create_graph=create_graph))  # (T, N, C, H, W)
        if combine == "grad_norm":  # only the published weights say more than the scale that is taken away here
            wanted = factors if weights == "paper" else torch.ones_like(factors)
            return (each / _length(each) * wanted.view(-1, 1, 1, 1, 1)).sum(0), losses
        return without_conflict(each), losses

    def settle(self, backbone: Reader, images: Tensor, batch: int = 64) -> None:
        """Remember how clean images do; and before that, of a quarter of them, what each task and an attacker need."""
        count = max(1, min(EXAMPLES, len(images) // 4))
        some, rest = images[:count], images[count:] if count < len(images) else images

        def read(looks: Tensor) -> Features:
            return _joined([backbone(part, False) for part in looks.split(batch)])

        with torch.no_grad():
            for task in self.tasks:
                drawn = task.draw(Draws(0, range(count), "self-supervision/settle"), self.layout)
                seen = {name: read(look) for name, look in task.looks(some, drawn).items()}
                task.settle(self.heads[task.name], seen, some, drawn)
            known, draws = read(some), Draws(0, range(len(rest)), "self-supervision/clean")
            losses = torch.cat(
                [
                    self.losses(backbone, part, self.draw(draws.take(which)))
                    for part, which in zip(rest.split(batch), torch.arange(len(rest)).split(batch), strict=True)
                ]
            ).double()
        shares = torch.linspace(0, 1, SHARES, dtype=losses.dtype, device=losses.device)
        self.mean, self.std = losses.mean(0).to(self.mean), losses.std(0, correction=0).clamp_min(1e-6).to(self.std)
        self.quantiles = losses.quantile(shares, dim=0).T.contiguous().to(self.quantiles)
        again = torch.arange(EXAMPLES, device=images.device) % count
        self.examples = known.pooled[again].to(self.examples)
        if known.logits.ndim == 2:  # what class a whole image is
            self.example_classes = known.logits.argmax(1)[again].to(self.example_classes)


def _joined(found: list[Features]) -> Features:
    maps = [one.map for one in found if one.map is not None]
    pooled, logits = (torch.cat([getattr(one, name) for one in found]) for name in ("pooled", "logits"))
    return Features(pooled, torch.cat(maps) if maps else None, logits)


def without_conflict(each: Tensor) -> Tensor:
    """The sum of several gradients (T, N, ...), each less what in it goes against another (PCGrad, arXiv 2001.06782).

    The published method draws the order in which the others are met; here it is always the same.

    >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 1.0]])
    >>> without_conflict(torch.stack([one, other])).tolist()
    [[0.5, 1.5]]
    """
    kept = []
    for place, gradient in enumerate(each):
        for other in (*each[:place], *each[place + 1 :]):
            against = _dot(gradient, other).clamp_max(0)
            gradient = gradient - against / _dot(other, other).clamp_min(1e-30) * other
        kept.append(gradient)
    return torch.stack(kept).sum(0)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    """(N, 1, ...) of (N, ...)."""
    return (one * other).sum(tuple(range(1, one.ndim)), keepdim=True)


def _length(each: Tensor) -> Tensor:
    """(T, N, 1, ...) of (T, N, ...)."""
    return each.square().sum(tuple(range(2, each.ndim)), keepdim=True).clamp_min(1e-24).sqrt()
