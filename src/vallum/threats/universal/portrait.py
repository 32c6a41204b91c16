"""What a universal perturbation looks like, in numbers and as a picture, and which class it stands for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vallum.disk import write_whole
from vallum.images import IGNORE, Batch
from vallum.threats.universal.found import repeated

BINS = 8  # of the spectrum, from coarse to fine


def portrait(delta: Tensor, model: Any, batch: Batch) -> dict[str, Any]:
    """Numbers for one perturbation, (C, h, w), and what the model answers on a batch of images that it is added to.

    `amplification` is by how much its picture is brighter than it is; `spectrum` the shares of its energy from coarse
    to fine, `coarse` that below a quarter of the finest; `variation` the mean difference of neighbouring pixels, as a
    share of the largest value; `dominant` the class answered most often, with its share before and after; `answers` the
    share of all answers that each class has, under it.
    """
    whole = repeated(delta[None], *batch.images.shape[-2:]).to(batch.images)
    with torch.no_grad():
        before = model(batch.images).argmax(1)
        after = model((batch.images + whole).clamp(0, 1)).argmax(1)
    if batch.labels.ndim > 1:
        before, after = (answers[batch.labels != IGNORE] for answers in (before, after))
    (dominant, count), *_ = Counter(after.flatten().tolist()).most_common(1) or [(0, 0)]
    classes = getattr(model, "classes", None)

    def named(k: int) -> str:
        return classes[k] if isinstance(classes, tuple) else str(k)

    answers = max(after.numel(), 1)
    shares = spectrum(delta)
    top = float(delta.abs().max())
    return {
        "largest": top,
        "length": float(delta.double().norm()),
        "amplification": round(0.5 / top, 3) if top else 1.0,
        "spectrum": [round(share, 6) for share in shares],
        "coarse": round(sum(shares[: BINS // 4]), 6),
        "variation": round(variation(delta) / top, 6) if top else 0.0,
        "dominant": named(dominant),
        "dominant after": count / answers,
        "dominant before": float((before == dominant).sum()) / answers,
        "changed": float((before != after).double().mean()) if after.numel() else 0.0,
        "answers": {named(k): count / answers for k, count in Counter(after.flatten().tolist()).most_common()},
        "shown on": len(batch),
    }


def spectrum(delta: Tensor) -> list[float]:
    """The shares of energy in rings of the Fourier plane, from coarse to fine; the mean colour is in the first.

    >>> spectrum(torch.ones(3, 8, 8))[0]
    1.0
    """
    height, width = delta.shape[-2:]
    energy = torch.fft.fft2(delta.double()).abs().square().sum(0)  # (h, w)
    down, right = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
    ring = (
        ((down.square() + right.square()).sqrt() / 0.5 * BINS).long().clamp_max(BINS - 1)
    )  # 0.5: a pixel up, one down
    sums = torch.zeros(BINS, dtype=torch.float64).index_add_(0, ring.flatten(), energy.flatten().cpu())
    return (sums / sums.sum().clamp_min(1e-300)).tolist()


def variation(delta: Tensor) -> float:
    """The mean difference of neighbours, across and down."""
    across, down = delta.diff(dim=-1).abs(), delta.diff(dim=-2).abs()
    return float((across.sum() + down.sum()) / max(across.numel() + down.numel(), 1))


def picture(delta: Tensor) -> np.ndarray:
    """(h, w, 3) bytes: middle grey is nothing, black and white the largest value there is."""
    top = delta.abs().max().clamp_min(1e-12)
    seen = ((delta.float() / top + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)  # (C, h, w)
    if len(seen) != 3:
        seen = seen[:1].expand(3, -1, -1)
    return np.asarray(seen.permute(1, 2, 0).cpu())


def save_picture(delta: Tensor, path: str | Path, zoom: int | None = None) -> Path:
    """As PNG, each pixel enlarged so that a small one can be seen."""
    path, pixels = Path(path), picture(delta)
    factor = zoom or max(1, 256 // max(pixels.shape[:2]))
    image = Image.fromarray(pixels.repeat(factor, 0).repeat(factor, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda aside: image.save(aside, format="PNG"))
    return path
