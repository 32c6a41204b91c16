"""Two packages that hold the code behind ImageNet-C, made to run, and their randomness put in the hands of a test."""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor


def corrupt_tta() -> types.ModuleType:
    pytest.importorskip("corrupt_tta", reason="the reference is in the extra `benchmarks`")
    return importlib.import_module("corrupt_tta.corruptions")


def imagecorruptions() -> types.ModuleType:
    """It was written for NumPy 1, scikit-image 0.18 and setuptools: what it misses of them is put in its place."""
    gaussian = pytest.importorskip("skimage.filters", reason="the reference is in the extra `benchmarks`").gaussian
    ndimage = importlib.import_module("scipy.ndimage")
    interpolation = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = ndimage.map_coordinates  # type: ignore[attr-defined]
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda package, name: str(  # type: ignore[attr-defined]
        Path(importlib.import_module(package.split(".")[0]).__file__ or "").parent / name
    )
    missing = {"scipy.ndimage.interpolation": interpolation, "pkg_resources": resources}
    with mock.patch.dict(sys.modules, missing):
        pytest.importorskip("imagecorruptions", reason="the reference is in the extra `benchmarks`")
        module = importlib.import_module("imagecorruptions.corruptions")

    def renamed(image: np.ndarray, sigma: float, multichannel: bool = False, **rest: object) -> np.ndarray:
        return gaussian(image, sigma, channel_axis=-1 if multichannel else None, **rest)

    module.gaussian = renamed  # type: ignore[attr-defined]
    if not hasattr(np, "float_"):
        module.np = types.SimpleNamespace(**{**vars(np), "float_": np.float64})  # type: ignore[attr-defined]
    return module


def as_bytes(image: Tensor) -> np.ndarray:
    """(H, W, C) uint8, what the references take."""
    return (image * 255).round().byte().permute(1, 2, 0).numpy()


def as_image(array: object) -> Tensor:
    """(C, H, W) in [0, 1] from what the references give."""
    return torch.from_numpy(np.asarray(array, dtype=np.float64)).permute(2, 0, 1) / 255


def picture(side: int = 224, width: int | None = None, seed: int = 0) -> Tensor:
    """(3, H, W) on the grid of 8 bits: smooth colours, hard edges, fine texture, black, white and plain grey."""
    stream = np.random.default_rng(seed)
    height, width = side, width or side
    y, x = np.mgrid[:height, :width] / max(height, width)
    channels = [0.5 + 0.4 * np.sin(stream.uniform(2, 9) * x + stream.uniform(2, 9) * y + k) for k in range(3)]
    image = np.stack(channels)
    image[:, (x - 0.3) ** 2 + (y - 0.4) ** 2 < 0.02] = np.array([0.9, 0.1, 0.2])[:, None]
    image[:, (x * 40).astype(int) % 7 == 0] *= 0.6
    image += 0.03 * stream.standard_normal(image.shape)
    image[:, : height // 8, : width // 8] = 0
    image[:, : height // 8, width // 8 : width // 4] = 1
    image[:, height // 8 : height // 4, : width // 8] = 0.5
    return torch.from_numpy((image.clip(0, 1) * 255).round() / 255).float()


@contextlib.contextmanager
def drawing(**functions: Callable[..., object]) -> Iterator[None]:
    """Inside, these functions of numpy.random are the given ones."""
    with contextlib.ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(mock.patch.object(np.random, name, function))
        yield
