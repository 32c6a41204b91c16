"""Randomised smoothing: what noise around an image proves about every image near it.

Cohen et al. 2019 (arXiv 1902.02918), PREDICT and CERTIFY, through a denoiser as Salman et al. 2020 (arXiv 2003.01908).
What looks at the noisy image may be anything that sees nothing else; the radius is that of the vote over all noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from vallum.defences.base import Defence
from vallum.defences.noisy_modelling.de3 import De3, sees_images
from vallum.errors import UserError, a
from vallum.images import Draws, Task
from vallum.models.model import Model


@dataclass(frozen=True)
class Certificate:
    """The class that the vote over all noise names, and how far, in the norm 2, the image may move without changing it.

    With probability 1 - alpha at least; no class where the draws do not say enough.
    """

    prediction: int | None
    radius: float = 0.0
    lower: float = 0.0  # bound on the share of all noise for which the class is named


def predict(
    defence: Model, image: Tensor, key: int = 0, *, draws: int = 1000, alpha: float = 0.001, seed: int = 0,
    batch_size: int = 256, said: Callable[[int], None] | None = None,
) -> Certificate:  # fmt: skip
    """The class of the vote over all noise, or none: wrong with probability alpha at most (Cohen's PREDICT)."""
    smooth = certifiable(defence)
    votes = count_votes(smooth, image, key, draws, "predict", seed, batch_size, said)
    second, first = votes.argsort()[-2:].tolist()
    ahead, behind = int(votes[first]), int(votes[second])
    sure = ahead + behind > 0 and stats.binomtest(ahead, ahead + behind, 0.5).pvalue <= alpha
    return Certificate(first if sure else None)


def certify(
    defence: Model, image: Tensor, key: int = 0, *, draws: int = 10_000, first: int = 100, alpha: float = 0.001,
    seed: int = 0, batch_size: int = 256, said: Callable[[int], None] | None = None,
) -> Certificate:  # fmt: skip
    """Class and radius of one image (C, H, W), from `draws` of noise after a `first` few that choose the class.

    Memory is that of one batch, however many draws there are; the same key and seed meet the same noise at any batch
    size. `said` is called with the number of draws of each batch.
    """
    smooth = certifiable(defence)
    chosen = int(count_votes(smooth, image, key, first, "choose", seed, batch_size, said).argmax())
    hits = int(count_votes(smooth, image, key, draws, "certify", seed, batch_size, said)[chosen])
    lower = lower_bound(hits, draws, alpha)
    if lower <= 0.5:
        return Certificate(None, 0.0, lower)
    return Certificate(chosen, smooth.sigma * float(stats.norm.ppf(lower)), lower)


def lower_bound(hits: int, n: int, alpha: float) -> float:
    """Clopper and Pearson's: below the true share with probability 1 - alpha at least.

    >>> round(lower_bound(1000, 1000, 0.001), 6), 0.001 ** (1 / 1000)
    (0.993116, 0.993116...)
    """
    return float(stats.beta.ppf(alpha, hits, n - hits + 1)) if hits else 0.0


def count_votes(
    defence: De3, image: Tensor, key: int, draws: int, purpose: str, seed: int, batch_size: int,
    said: Callable[[int], None] | None = None,
) -> np.ndarray:  # fmt: skip
    """How often the model behind the denoiser names each class, (K,)."""
    if draws < 1:
        raise UserError(f"{draws} draws to {purpose}", "at least 1 is needed")
    (stream,) = Draws(seed, [key], "certificate").each(purpose)
    votes = np.zeros(0, np.int64)
    for start in range(0, draws, batch_size):
        shape = (min(batch_size, draws - start), *image.shape)
        noise = torch.from_numpy(stream.standard_normal(shape, dtype=np.float32)).to(image.device)
        with torch.no_grad():
            logits = defence.model(defence._denoised(image + defence.sigma * noise, image.expand(shape)))
        found = np.bincount(logits.argmax(1).cpu().numpy(), minlength=logits.shape[1])
        votes = found if not len(votes) else votes + found
        if said is not None:
            said(len(noise))
    return votes


def certifiable(defence: Model) -> De3:
    """The defence, if what Cohen et al. prove holds for it."""
    if not isinstance(defence, De3):
        raise UserError(
            f"{a(defence) if isinstance(defence, Defence) else 'this model'} adds no noise of a known law",
            "certificates are for noisy_modelling as the outermost defence",
            "harden the model with noisy_modelling first",
        )
    if defence.task is not Task.CLASSIFY:
        raise UserError("this model is a segmenter", "certificates are for classifiers")
    if not defence.sigma:
        raise UserError("sigma is 0", "without noise nothing is proven", "give sigma, as sigma=0.25")
    if defence.hide:
        raise UserError(f"hide={defence.hide:g}", "what is proven is of noise alone", "give hide=0")
    if sees_images(defence.denoiser):
        raise UserError(
            "this denoiser sees the image without noise as well",
            "the proof holds for what sees nothing but the noisy image",
            "use a denoiser that takes one argument",
        )
    if isinstance(defence.model, Defence) and (defence.model.draws_at_random or defence.model.keeps_state):
        raise UserError(
            "the model behind the denoiser draws at random or keeps a state",
            "the proof holds for a function of the noisy image",
            "put noisy_modelling around a model without such a defence",
        )
    return defence
