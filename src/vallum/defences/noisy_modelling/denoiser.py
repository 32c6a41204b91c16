"""Noisy image modelling: a vision transformer that learns to tell an image from its noise.

You et al. 2023, "Beyond Pretrained Features: Noisy Image Modeling Provides Adversarial Defense" (arXiv 2302.01056).
Their code scales what the network says by the mean and deviation of each patch of the image without noise, which at
test time is the attacked image: it passes the noise by. Here the network sees the noisy image, and nothing else.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vallum.defences.noisy_modelling.decoders import Linear, Transformer
from vallum.defences.noisy_modelling.encoders import tokens
from vallum.images import Draws
from vallum.models.nets import MEAN, STD

Decoder = Literal["transformer", "linear"]
Target = Literal["pixels", "patch_normalised"]
Loss = Literal["mse", "l1"]
LearntFrom = Literal["all", "hidden"]


class Denoiser(nn.Module):
    """Noisy images in, what they were without noise out: both (N, C, H, W), and neither is clipped to [0, 1].

    Some patches may be hidden from it, as in masked modelling: those it guesses, and where it has learnt from no other
    (`learnt_from="hidden"`) the rest stays as it is. With `patch_normalised` targets the loss counts each patch
    in units of its own deviation, as the paper's does; the network says mean and deviation of the patch itself.

    >>> from vallum.defences.noisy_modelling.encoders import make_encoder
    >>> Denoiser(make_encoder("net:vit?size=32"))(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        encoder: Any,
        decoder: Decoder = "transformer",
        target: Target = "pixels",
        learnt_from: LearntFrom = "all",
        **layout: int,
    ) -> None:
        super().__init__()
        self.encoder, self.target, self.learnt_from = encoder, target, learnt_from
        self.patch: tuple[int, int] = tuple(encoder.patch_embed.patch_size)
        self.grid: tuple[int, int] = tuple(encoder.patch_embed.grid_size)
        self.channels = encoder.patch_embed.proj.in_channels
        outputs = self.channels * self.patch[0] * self.patch[1] + (2 if target == "patch_normalised" else 0)
        kind = Transformer if decoder == "transformer" else Linear
        self.decoder: Any = kind(self.grid, encoder.embed_dim, outputs, **layout)

    @property
    def size(self) -> tuple[int, int]:
        return self.grid[0] * self.patch[0], self.grid[1] * self.patch[1]

    def forward(self, noisy: Tensor, hidden: Tensor | None = None) -> Tensor:
        said = self._said(noisy, hidden)
        if self.target == "patch_normalised":
            patches, mean, log_std = self._parts(said)
            said = patches * log_std.exp() + mean
        if hidden is not None and self.learnt_from == "hidden":
            said = torch.where(hidden.to(said.device)[..., None], said, patched((noisy - MEAN) / STD, self.patch))
        return unpatched(said, self.grid, self.patch) * STD + MEAN

    def loss(
        self, noisy: Tensor, clean: Tensor, hidden: Tensor | None = None, loss: Loss = "mse", all_patches: bool = True
    ) -> Tensor:
        """How far off it is, one number per image; with `hidden` patches (N, L) over all of them, or those alone."""
        said, wanted = self._said(noisy, hidden), patched((clean - MEAN) / STD, self.patch)  # (N, L, P)
        off = {"mse": F.mse_loss, "l1": F.l1_loss}[loss]
        if self.target == "pixels":
            values = off(said, wanted, reduction="none").mean(2)  # (N, L)
        else:
            patches, mean, log_std = self._parts(said)
            true_mean = wanted.mean(2, keepdim=True)
            true_log_std = (wanted.var(2, keepdim=True) + 1e-4).sqrt().log()
            values = off(patches, (wanted - true_mean) / true_log_std.exp(), reduction="none").mean(2)
            values = values + off(mean, true_mean, reduction="none")[:, :, 0]
            values = values + off(log_std, true_log_std, reduction="none")[:, :, 0]
        if hidden is None or all_patches:
            return values.mean(1)
        return (values * hidden).sum(1) / hidden.sum(1)

    def hide(self, share: float, draws: Draws, times: int = 1) -> Tensor | None:
        """Which patches of each image stay hidden, (N * times, L): the same number of all, drawn for each alone."""
        patches = self.grid[0] * self.grid[1]
        count = min(round(share * patches), patches - 1)
        if count == 0:
            return None
        order = draws.uniform(times, patches, purpose="hidden").flatten(0, 1).argsort(1)
        return torch.zeros(order.shape, dtype=torch.bool).scatter(1, order[:, :count], True)

    def _said(self, noisy: Tensor, hidden: Tensor | None) -> Tensor:
        hidden = None if hidden is None else hidden.to(noisy.device)
        seen = tokens(self.encoder, (noisy - MEAN) / STD, hidden, self.decoder.hidden_patch)
        return self.decoder(seen, hidden)

    def _parts(self, said: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return said[..., :-2], said[..., -2:-1], said[..., -1:].clamp(-6, 2)


def patched(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N, C, H, W) as (N, patches, pixels of a patch)."""
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def unpatched(patches: Tensor, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """The inverse of `patched`."""
    size = grid[0] * patch[0], grid[1] * patch[1]
    return F.fold(patches.transpose(1, 2), size, patch, stride=patch)
