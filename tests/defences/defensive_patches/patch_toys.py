"""A world in which nothing is ever around an object, and networks that have learnt it: what is put there misleads."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from vallum.data import Data, load_data
from vallum.images import Draws
from vallum.models import Model, load_model

CLASSES = tuple("abcdef")
SIZE = 16


def world(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Glyphs of 8 x 8 pixels, in a colour of their own, on an even ground of another, a little noise on both."""
    draws = Draws(seed, range(count), "toy")
    glyphs = (Draws(7, range(len(CLASSES)), "glyph").uniform(1, 4, 4, purpose="shape") > 0.5).float()
    glyphs = glyphs.repeat_interleave(2, 2).repeat_interleave(2, 3)  # (C, 1, 8, 8)
    labels = draws.integers(len(CLASSES), purpose="class")
    ground, ink = draws.uniform(2, 3, purpose="colours").sub(0.5).mul(0.4).unbind(1)
    images = (0.35 + ground)[:, :, None, None].repeat(1, 1, SIZE, SIZE)
    middle = images[:, :, 4:12, 4:12]
    images[:, :, 4:12, 4:12] = torch.where(glyphs[labels] > 0, (0.55 + ink)[:, :, None, None], middle)
    return (images + 0.05 * draws.normal(3, SIZE, SIZE, purpose="noise")).clamp(0, 1), labels


def toy_data(count: int = 300, seed: int = 0) -> Data:
    return load_data(world(count, seed), classes=CLASSES)


@functools.cache
def toy_model(seed: int = 0, width: int = 12) -> Model:
    """Trained for a second: near 100 % on the bare world."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * width * (SIZE // 4) ** 2, len(CLASSES)),
        )  # fmt: skip
    images, labels = world(512, seed=1)
    adam = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(network(images), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return load_model(network.eval(), classes=CLASSES)


def told(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).double().mean())
