"""Attacks crafted on other models: what somebody can do who never gets to touch the one that is attacked.

Steps with momentum, diverse inputs and smoothed gradients climb the loss of the surrogates' mean logits (an ensemble
as in Liu et al. 2017, arXiv 1611.02770); each image keeps the step at which it was highest.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Task
from vallum.models import load_model, model_fingerprint
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats.base import THREATS
from vallum.threats.losses import loss_named
from vallum.threats.momentum import Momentum
from vallum.threats.search import frozen
from vallum.threats.segmentation_losses import rank_of


@THREATS.register("transfer")
@dataclass(frozen=True, kw_only=True)
class Transfer(Momentum):
    """The momentum attack on surrogate models; the model that is attacked is not asked at all.

    >>> Transfer(eps=8 / 255, surrogates="(builtin:signs_resnet;builtin:signs_vit)").spec
    'transfer:eps=8/255,surrogates=(builtin:signs_resnet;builtin:signs_vit)'
    """

    diversity: float = parameter("how often they are shown a shrunk and shifted image, as a probability", 0.5)
    surrogates: str = parameter("the models, in brackets, with a semicolon between them: (timm:resnet18;timm:vgg11)")

    as_of: tuple[str, ...] | None = field(
        default=None, kw_only=True, repr=False, compare=False, metadata={"hidden": True, "help": "set when it is made"}
    )

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.as_of is None:
            object.__setattr__(self, "as_of", tuple(_as_of(name) for name in self.names))
        if not self.names:
            raise UserError(
                "transfer has no surrogate", "one model at least", "write surrogates=(builtin:signs_resnet)"
            )

    @property
    def names(self) -> list[str]:
        text = self.surrogates.strip()
        text = text[1:-1] if text.startswith("(") and text.endswith(")") else text
        return [name.strip() for name in text.split(";") if name.strip()]

    @property
    def passes(self) -> float:
        return 4.0 * self.steps * len(self.names)

    @property
    def fingerprint(self) -> str:
        return "+".join(model_fingerprint(one) for one in self._loaded("cpu"))

    def _loaded(self, device: str) -> list[Model]:
        return [_load(name, as_of, device) for name, as_of in zip(self.names, self.as_of or (), strict=True)]

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        surrogates = self._loaded(str(images.device))
        theirs = getattr(model, "classes", None)
        for name, surrogate in zip(self.names, surrogates, strict=True):
            if surrogate.task is not (Task.CLASSIFY if labels.ndim == 1 else Task.SEGMENT):
                raise UserError(
                    f"the surrogate {name} does not do what the model does", f"its task is {surrogate.task}"
                )
            if isinstance(theirs, tuple) and surrogate.classes and len(surrogate.classes) != len(theirs):
                raise UserError(
                    f"the surrogate {name} has {len(surrogate.classes)} classes, the model {len(theirs)}",
                    "both answer the same question",
                )
        return self.craft(surrogates, images, labels, keys)

    def craft(
        self,
        surrogates: Sequence[nn.Module],
        images: Tensor,
        labels: Tensor,
        keys: Sequence[int] | Tensor | None = None,
    ) -> Tensor:
        """The same on networks at hand: logits from images in [0, 1]."""
        together, sign = MeanLogits(surrogates), -1.0 if self.targeted else 1.0
        judge = rank_of(self.loss) or loss_named(self.loss)
        with frozen(together):
            labels, found = labels.clone(), images.detach().clone()
            highest = torch.full((len(found),), -torch.inf, dtype=torch.float64, device=found.device)
            for point in self.points(together, images, labels, self.draws(images, keys)):
                with torch.no_grad():
                    values = (sign * judge(together(point), labels)).double()
                higher = values > highest
                highest = torch.where(higher, values, highest)
                found = torch.where(higher.view(-1, 1, 1, 1), point, found)
        return found


class MeanLogits(nn.Module):
    """Several models as one."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, images: Tensor) -> Tensor:
        logits = [model(images) for model in self.models]
        if len({one.shape for one in logits}) > 1:
            shapes = " and ".join(str(tuple(one.shape[1:])) for one in logits)
            raise UserError(f"surrogates answer with logits of {shapes}", "all answer the same question")
        return torch.stack(logits).mean(0)


def _as_of(name: str) -> str:
    """Changes with the files that a surrogate's name leads to: one that was trained anew is loaded anew."""
    texts = re.split(r"[?&=]", name)
    texts += [part for text in texts for part in (text.partition(":")[2], text.rpartition(":")[0])]
    texts += [text.partition(":")[2].rpartition(":")[0] for text in texts]
    files: set[Path] = set()
    for path in (Path(text).expanduser() for text in texts if text):
        files |= set(path.iterdir()) if path.is_dir() else {path}
    return repr([(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(files) if file.is_file()])


@functools.lru_cache(maxsize=8)  # one batch after the other asks for the same
def _load(name: str, as_of: str, device: str) -> Model:
    return load_model(name, device=device).eval()
