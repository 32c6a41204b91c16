"""From what the encoder made of each patch to the patch as it was without noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.torchvision_shim import ensure_torchvision


class Linear(nn.Module):
    """A linear layer per patch, as in SimMIM: the encoder has to do it all, and puts a token where it sees nothing."""

    def __init__(self, grid: tuple[int, int], dim: int, outputs: int) -> None:
        super().__init__()
        self.hidden_patch = nn.Parameter(torch.zeros(dim))
        self.norm, self.out = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def forward(self, seen: Tensor, hidden: Tensor | None = None) -> Tensor:
        return self.out(self.norm(seen))


class Transformer(nn.Module):
    """A transformer of its own, as in MAE: it fills in the patches that the encoder did not see."""

    hidden_patch = None

    def __init__(
        self, grid: tuple[int, int], dim: int, outputs: int, width: int = 96, depth: int = 2, heads: int = 3
    ) -> None:
        super().__init__()
        ensure_torchvision()
        from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
        from timm.models.vision_transformer import Block

        if width % 4 or width % heads:
            raise UserError(f"a decoder of width={width} with heads={heads}", "a multiple of 4 and of heads")
        self.norm, self.narrow = nn.LayerNorm(dim), nn.Linear(dim, width)
        self.filling = nn.Parameter(torch.zeros(width))
        place = build_sincos2d_pos_embed(list(grid), width).view(1, -1, width)
        self.register_buffer("place", place, persistent=False)
        self.blocks: Any = nn.Sequential(*(Block(width, heads, mlp_ratio=2, qkv_bias=True) for _ in range(depth)))
        self.last, self.out = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, seen: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = self.narrow(self.norm(seen))  # (N, seen, width)
        if hidden is not None:
            whole = self.filling.to(x.dtype).expand(*hidden.shape, -1).clone()  # (N, L, width)
            whole[~hidden] = x.flatten(0, 1)
            x = whole
        return self.out(self.last(self.blocks(x + self.place)))  # (N, L, outputs)
