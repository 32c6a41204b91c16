"""What becomes of a colour on its way through a printer, onto paper and into a camera, with its gradient."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from vallum.disk import write_whole
from vallum.errors import UserError

CARD, WEIGHTS, FORMAT = "printer.json", "weights.safetensors", 1
DARKEST = 1e-3  # below it a power's slope runs away


class PrinterCamera(nn.Module):
    """Colours (N, 3, H, W) in [0, 1] as they are sent to the printer, to those that the camera then sees.

    Each channel through a power, all products of channels up to some degree, mixed, each through a power again. With
    degree 1 it is light that passes three inks and three sensors; with powers of 1 it is a polynomial.

    >>> bleached = PrinterCamera(torch.ones(3), torch.cat([torch.full((1, 3), 0.2), 0.6 * torch.eye(3)]), torch.ones(3))
    >>> bleached(torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1)).flatten().tolist()
    [0.2..., 0.5, 0.8...]
    """

    before: Tensor
    weights: Tensor
    after: Tensor

    def __init__(self, before: Tensor, weights: Tensor, after: Tensor) -> None:
        """`before`, `after`: (3,) powers. `weights`: (products, 3), for the products in the order of `products`."""
        super().__init__()
        degree = next((d for d in range(1, 6) if len(_powers(d)) == len(weights)), None)
        if degree is None or before.shape != (3,) or after.shape != (3,) or weights.shape[1:] != (3,):
            raise UserError(f"weights {tuple(weights.shape)} of a printer", "(4, 3), (10, 3) or (20, 3)")
        self.degree = degree
        for name, values in (("before", before), ("weights", weights), ("after", after)):
            self.register_buffer(name, values.detach().float().contiguous().clone())

    def forward(self, colours: Tensor) -> Tensor:
        """(N, 3, H, W) to the same."""
        rows = colours.movedim(1, -1)  # (N, H, W, 3)
        seen = products(rows.clamp_min(DARKEST) ** self.before.to(rows), self.degree) @ self.weights.to(rows)
        return (seen.clamp(DARKEST, 1) ** (1 / self.after.to(rows))).movedim(-1, 1)

    def save(self, folder: str | Path, **facts: Any) -> Path:
        """Write printer.json, with the facts, and the numbers beside it."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.cpu().contiguous().clone() for name, tensor in self.state_dict().items()}
        text = json.dumps({"format": FORMAT, "kind": "printer", "degree": self.degree, **facts}, indent=2) + "\n"
        write_whole(folder / WEIGHTS, lambda path: path.write_bytes(save(tensors)))
        write_whole(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))
        return folder


def load_printer(path: str | Path) -> PrinterCamera:
    """The model in a folder of `vallum patch fit-printer`."""
    path = Path(path).expanduser()
    folder = path if path.is_dir() else path.parent
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if (card["format"], card["kind"]) != (FORMAT, "printer"):
            raise UserError(f"{folder} holds no printer that this vallum reads")
        tensors = load((folder / WEIGHTS).read_bytes())
        return PrinterCamera(tensors["before"], tensors["weights"], tensors["after"]).eval()
    except UserError:
        raise
    except Exception as error:  # no such file, no JSON, no safetensors, or without one of its parts
        raise UserError(
            f"{path} holds no printer", f"{type(error).__name__}: {error}",
            "name a folder of `vallum patch fit-printer`",
        ) from error  # fmt: skip


def products(colours: Tensor, degree: int) -> Tensor:
    """(..., F): all products of channels (..., 3), from 1 up to this degree.

    >>> products(torch.tensor([2.0, 3.0, 5.0]), 2).int().tolist()
    [1, 2, 3, 5, 4, 6, 10, 9, 15, 25]
    """
    columns = [torch.ones_like(colours[..., 0])]
    for chosen in _powers(degree)[1:]:
        column = colours[..., chosen[0]]
        for channel in chosen[1:]:
            column = column * colours[..., channel]
        columns.append(column)
    return torch.stack(columns, -1)


def _powers(degree: int) -> list[tuple[int, ...]]:
    return [chosen for d in range(degree + 1) for chosen in itertools.combinations_with_replacement(range(3), d)]
