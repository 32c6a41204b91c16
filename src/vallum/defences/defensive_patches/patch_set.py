"""One patch for each class, the mask that all share, and what made them: a folder of pictures, and no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from vallum.defences.defensive_patches.laying import lay
from vallum.disk import write_whole
from vallum.errors import UserError
from vallum.models.saving import CARD
from vallum.models.state import tensors_fingerprint

TENSORS, KIND, FORMAT = "patches.safetensors", "patches", 1


@dataclass
class PatchSet:
    """Patches (C, 3, h, w) in [0, 1], one for each class, or one for all of them, under a mask (h, w) in {0, 1}.

    They lie in the middle of images of `image_size`, and have `fineness` pixels of their own for each of those, each
    way. On larger images they grow along. Which patch an image gets is for the caller to say: who sticks one on a sign
    knows what the sign says, and nothing here guesses it.

    >>> ring = torch.ones(4, 4); ring[1:3, 1:3] = 0
    >>> patches = PatchSet(torch.rand(2, 3, 4, 4), ring, ("stop", "yield"), image_size=(4, 4))
    >>> images = patches.lay(torch.zeros(1, 3, 4, 4), torch.tensor([1]))
    >>> bool((images == patches.patches[1] * ring).all()), patches.area, patches.hole
    (True, 0.75, (2, 2))
    """

    patches: Tensor  # (C or 1, 3, h, w) float
    mask: Tensor  # (h, w) float
    classes: tuple[str, ...]
    image_size: tuple[int, int]  # (H, W) of the images that they were made for
    fineness: int = 1
    shape: str = ""  # the spec of the mask, "ring:outer=30,inner=26"
    made: dict[str, Any] = field(default_factory=dict)  # of what, how, by which versions: for whoever reads it later

    def __post_init__(self) -> None:
        self.mask = self.mask.squeeze(0) if self.mask.ndim == 3 else self.mask
        self.classes, self.image_size = tuple(self.classes), (int(self.image_size[0]), int(self.image_size[1]))
        if self.patches.ndim != 4 or self.patches.shape[2:] != self.mask.shape:
            raise UserError(
                f"patches {tuple(self.patches.shape)} under a mask {tuple(self.mask.shape)}",
                "(C, 3, h, w) and (h, w) are needed",
            )
        if len(self.patches) not in (1, len(self.classes)):
            raise UserError(f"{len(self.patches)} patches for {len(self.classes)} classes", "one for each, or for all")
        if not bool(((self.mask == 0) | (self.mask == 1)).all()) or not bool(self.mask.any()):
            raise UserError("the mask holds other values than 0 and 1, or no 1", remedy="threshold it")
        low, high = (float(value) for value in self.patches.detach().aminmax())
        if not (low >= 0 and high <= 1):
            raise UserError(f"patches lie in [{low:.2f}, {high:.2f}]", "colours are in [0, 1]")

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def universal(self) -> bool:
        """Whether one patch serves all classes, and so tells nothing of them."""
        return len(self.patches) == 1 and len(self.classes) > 1

    @property
    def area(self) -> float:
        """The share of an image that is covered."""
        return float(self.mask.double().sum()) / (self.fineness**2 * self.image_size[0] * self.image_size[1])

    @property
    def hole(self) -> tuple[int, int] | None:
        """Height and width, in the patch's pixels, of the free space in its middle; None: its middle is covered."""
        rows, columns = (self.mask[:, self.mask.shape[1] // 2] == 0, self.mask[self.mask.shape[0] // 2] == 0)
        tall, wide = (_run_through_the_middle(free.tolist()) for free in (rows, columns))
        return (tall, wide) if tall and wide else None

    @property
    def fingerprint(self) -> str:
        return tensors_fingerprint({"patches": self.patches.detach().cpu(), "mask": self.mask.cpu()})

    def lay(self, images: Tensor, labels: Tensor, *, placed: Tensor | None = None) -> Tensor:
        """The images with the patch of each label on them; `labels` index the patches, (N,).

        `placed`, (N, 3, 3), is where each lies, as `laying.lay` says. Differentiable in images, patches and places.
        """
        return self.laid(images, labels, placed=placed)[0]

    def laid(self, images: Tensor, labels: Tensor, *, placed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `lay`, and how far the patch covers each pixel: (N or 1, 1, H, W) in [0, 1]."""
        if labels.ndim != 1 or len(labels) != len(images):
            raise UserError(f"labels {tuple(labels.shape)} for {len(images)} images", "a class for each is needed")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise UserError(f"a label is {int(labels.max())}", f"there are {len(self.classes)} classes, from 0")
        which = torch.zeros_like(labels) if len(self.patches) == 1 else labels
        chosen = self.patches.to(images)[which.to(images.device)]  # (N, 3, h, w)
        return lay(images, chosen, self.mask.to(images), self.pixels_per_pixel(images), placed)

    def pixels_per_pixel(self, images: Tensor) -> float:
        """How many of the patch's pixels, each way, one pixel of these images sees where it lies upright."""
        grown = min(size / own for size, own in zip(images.shape[2:], self.image_size, strict=True))
        return self.fineness / grown

    def save(self, folder: str | Path) -> Path:
        """Write vallum.json, the numbers in patches.safetensors, and a picture of each patch, clear around it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = {"patches": self.patches, "mask": self.mask}
        tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in own.items()}
        card = {
            "format": FORMAT,
            "kind": KIND,
            "classes": self.classes,
            "image_size": self.image_size,
            "fineness": self.fineness,
            "shape": self.shape,
            "weights": tensors_fingerprint(tensors),
            "made": self.made,
        }
        write_whole(folder / TENSORS, lambda path: path.write_bytes(save(tensors)))
        for number, name in enumerate(self.picture_names()):
            picture = self.picture(number)
            write_whole(folder / name, lambda path, picture=picture: picture.save(path, "PNG"))  # type: ignore[misc]
        text = json.dumps(card, indent=2, default=str) + "\n"
        write_whole(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> PatchSet:
        """The patches that `save` wrote, bit for bit."""
        folder = Path(folder).expanduser()
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            tensors = load((folder / TENSORS).read_bytes())
            if card["kind"] != KIND or card["format"] != FORMAT:
                raise UserError(f"{folder} holds no patches that this vallum reads")
            if tensors_fingerprint(tensors) != card["weights"]:
                raise UserError(
                    f"the patches in {folder} are not those that {CARD} describes",
                    "both are written by one save",
                    "make them again",
                )
            return cls(
                tensors["patches"],
                tensors["mask"],
                tuple(card["classes"]),
                tuple(card["image_size"]),
                int(card["fineness"]),
                card["shape"],
                card["made"],
            )
        except UserError:
            raise
        except Exception as error:  # no such file, no JSON, no safetensors, or without one of its parts
            raise UserError(
                f"{folder} holds no patches", f"{type(error).__name__}: {error}", "name a folder of `vallum patch make`"
            ) from error

    def picture(self, number: int) -> Image.Image:
        """One patch, clear where its mask is 0, a pixel for a pixel."""
        colours = (self.patches[number].detach().cpu().float() * 255).round().byte().permute(1, 2, 0).numpy()
        clear = (self.mask.cpu() * 255).byte().numpy()[..., None]
        return Image.fromarray(np.concatenate([colours, clear], 2), "RGBA")

    def picture_names(self) -> list[str]:
        """The file of each patch: its number, and its class as far as a file can be called so."""
        names = ["all"] if self.universal else list(self.classes)
        safe = ["".join(c if c.isalnum() else "-" for c in name).strip("-")[:40] for name in names]
        digits = len(str(len(names) - 1))
        return [f"patch-{number:0{digits}d}{'-' if name else ''}{name}.png" for number, name in enumerate(safe)]


def _run_through_the_middle(free: list[bool]) -> int:
    low = high = len(free) // 2
    if not free[low]:
        return 0
    while low > 0 and free[low - 1]:
        low -= 1
    while high < len(free) - 1 and free[high + 1]:
        high += 1
    return high - low + 1
