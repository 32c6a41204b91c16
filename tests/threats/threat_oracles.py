"""What the tests of threats compare with: slow, plain and independent of the code under test."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor, nn

from vallum.images import IGNORE
from vallum.models import load_model
from vallum.models.model import Model
from vallum.threats.losses import margin

Array = NDArray[np.float64]


def length(norm: str, delta: Array) -> float:
    return float(np.linalg.norm(delta.ravel(), {"inf": np.inf, "2": 2, "1": 1, "0": 0}[norm]))


def projected(norm: str, delta: Array, eps: float, low: Array, high: Array) -> Array:
    """The nearest point of ball and box: the multiplier of the ball, by bisection in float64."""
    if norm == "inf":
        return np.clip(delta, np.maximum(low, -eps), np.minimum(high, eps))

    def at(multiplier: float) -> Array:
        if norm == "2":
            return np.clip(delta / (1 + multiplier), low, high)
        return np.clip(np.sign(delta) * np.maximum(np.abs(delta) - multiplier, 0), low, high)

    if length(norm, at(0.0)) <= eps:
        return at(0.0)
    inside, outside = 1.0, 0.0
    while length(norm, at(inside)) > eps and inside < 1e60:
        inside *= 2
    for _ in range(200):
        middle = (inside + outside) / 2
        if length(norm, at(middle)) > eps:
            outside = middle
        else:
            inside = middle
    return at(inside)


def highest(norm: str, weight: Array, eps: float, low: Array, high: Array) -> float:
    """The largest value of the linear function `weight` on ball and box."""
    weight, low, high = weight.ravel(), low.ravel(), high.ravel()
    if norm == "0":  # the coordinates that gain most, each all the way to the box
        gains = np.sort(np.maximum(weight * high, weight * low))[::-1]
        return float(gains[: int(eps)].sum())
    if norm == "2":  # the optimality conditions: clip(s * weight) with the largest s that the ball allows
        inside, outside = 0.0, 1e12
        if length(norm, np.clip(outside * weight, low, high)) <= eps:
            inside = outside
        for _ in range(200):
            middle = (inside + outside) / 2
            if length(norm, np.clip(middle * weight, low, high)) > eps:
                outside = middle
            else:
                inside = middle
        return float(weight @ np.clip(inside * weight, low, high))
    if norm == "inf":
        bounds = list(zip(np.maximum(low, -eps), np.minimum(high, eps), strict=True))
        return -float(linprog(-weight, bounds=bounds).fun)
    # |delta| summed: delta is a positive part less a negative one.
    parts = [(0, h) for h in high] + [(0, -s) for s in low]
    within = np.ones((1, 2 * len(weight)))
    return -float(linprog(np.concatenate([-weight, weight]), A_ub=within, b_ub=[eps], bounds=parts).fun)


class Linear(nn.Module):
    """Logits W x + b."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # (K, D)
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.to(images.dtype).T + self.bias.to(images.dtype)


class Exact(nn.Module):
    """A curved classifier of elementwise arithmetic alone, so that an image's logits do not know their batch."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        columns = []
        for k in range(self.classes):
            a, b, c, d = (x[:, (5 * k + step) % x.shape[1]] for step in (0, 1, 2, 7))
            columns.append((a - 0.4) * (b + 0.3) * 4 - c * c + d * (0.5 + k / 8))
        return torch.stack(columns, 1)  # (N, K)


class ExactPixels(nn.Module):
    """The same for segmentation: a pixel's logits depend on that pixel alone."""

    def forward(self, images: Tensor) -> Tensor:
        red, green, blue = images.unbind(1)
        return torch.stack([red * green * 3, green - blue * blue, blue + 0.3 - red * red], 1)  # (N, K, H, W)


class EasyPixels(nn.Module):
    """A segmenter that everything fools: what it says of a place turns where it and its neighbours get darker."""

    def forward(self, images: Tensor) -> Tensor:
        light = torch.nn.functional.avg_pool2d(images.mean(1, keepdim=True), 3, 1, 1, count_include_pad=False)
        stripes = 1 - 2 * (torch.arange(images.shape[3], device=images.device) // 4 % 2)  # which way round, by place
        lead = (light - 0.5) * 4 * stripes
        return torch.cat([lead, torch.zeros_like(lead), torch.full_like(lead, -1)], 1)  # (N, 3, H, W)


def easy_pixels() -> Model:
    return load_model(EasyPixels(), task="segment")


def exact_pixels() -> Model:
    return load_model(ExactPixels(), task="segment")


SHAPE, EPS = (3, 6, 6), {"inf": 0.06, "2": 0.5, "1": 2.5}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def grey_and_boxed(n: int = 8) -> dict[str, Tensor]:
    """Images from which the box is out of reach, and images that lean against it everywhere."""
    noise = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    near = torch.where(noise < 0.5, noise * 0.1, 1 - (noise - 0.5) * 0.1)
    return {"ball": torch.full((n, *SHAPE), 0.5), "ball and box": near}


def optimum(norm: str, model: Linear, images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Margin of each image for the label 0, and the largest that any perturbation reaches."""
    weight = model.weight.detach().double().numpy()
    logits = model(images.double()).detach()
    best = torch.full((len(images),), -torch.inf, dtype=torch.float64)
    for i, image in enumerate(images.double().flatten(1).numpy()):
        for rival in range(1, len(weight)):
            gain = highest(norm, weight[rival] - weight[0], eps, -image, 1 - image)
            best[i] = max(float(best[i]), float(logits[i, rival] - logits[i, 0]) + gain)
    return margin(logits, torch.zeros(len(images), dtype=torch.long)), best


def one_step(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """An attack as a user would write it."""
    point = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.cross_entropy(model(point), labels, ignore_index=IGNORE), point
    )
    return (images + 16 / 255 * gradient.sign()).clamp(0, 1)
