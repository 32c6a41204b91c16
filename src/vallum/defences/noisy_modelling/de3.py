"""De^3: add noise, take it away again with a network that was pre-trained for it, and only then classify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.defences.base import Defence
from vallum.defences.chance import draws_for
from vallum.defences.noisy_modelling.denoiser import Denoiser
from vallum.defences.noisy_modelling.noise import add_noise
from vallum.defences.noisy_modelling.stand_ins import LowFrequency, open_clamp
from vallum.defences.stand_ins import Averaged
from vallum.defences.surface import Surface
from vallum.errors import UserError, a
from vallum.images import Draws
from vallum.models.model import Model
from vallum.specs import Source, write_value

Answer = Literal["vote", "mean"]
ANSWERS = ("vote", "mean")


class De3(Defence):
    """Any model behind noise and any denoiser: a module from noisy images to images of the same shape.

    `sigma`, the strength of the noise in pixels of [0, 1], can be changed at any time, and 0 switches the defence off
    (`always` denoises even then). With several `draws` the answer is the mean of their probabilities, or their vote.

    >>> from vallum.models import load_model
    >>> defence = De3(load_model("builtin:signs_resnet"), nn.Identity(), sigma=0.1)
    >>> defence.tuned(sigma=0.2).sigma, defence.sigma
    (0.2, 0.1)
    """

    stateful = False
    knobs: ClassVar[Mapping[str, str]] = {
        "sigma": "standard deviation of the noise; 0: no defence",
        "draws": "of noise for one answer",
        "answer": "of several draws: vote or mean",
        "hide": "share of the patches, drawn at random, that the denoiser does not see and has to guess",
    }

    def __init__(
        self,
        model: Model,
        denoiser: nn.Module,
        sigma: float = 0.25,
        draws: int = 1,
        answer: Answer = "vote",
        *,
        hide: float = 0.0,
        always: bool = False,
        source: Source | None = None,
    ) -> None:
        super().__init__(model)
        self.denoiser = denoiser
        self.sigma, self.draws, self.answer, self.always = float(sigma), int(draws), answer, always
        self.hide = float(hide)
        self.source = source or Source("noisy_modelling", "", {})  # what makes the denoiser's architecture
        self._check()
        self.clamp = clamp
        if self.size is None and isinstance(denoiser, Denoiser):
            self.size = denoiser.size
        self.denoiser.train(model.training)

    @property
    def randomised(self) -> bool:  # type: ignore[override]
        return self.sigma > 0 or self.hide > 0

    @property
    def on(self) -> bool:
        """Whether images go through the denoiser at all."""
        return self.randomised or self.always

    @property
    def exact_gradient(self) -> bool:  # type: ignore[override]
        return self.draws == 1 or self.answer != "vote"

    @property
    def fingerprint(self) -> str:
        """What a prediction depends on besides the weights."""
        return f"sigma={self.sigma!r} draws={self.draws} answer={self.answer} hide={self.hide!r} always={self.always}"

    def forward(self, images: Tensor) -> Tensor:
        if not self.on:
            return self.model(images)
        if self.draws == 1 or not self.randomised:
            return self.model(self.purify(images))
        n, m = len(images), self.draws
        draws = draws_for(images, "noise")
        noise = draws.normal(m, *images.shape[1:], purpose="noise", device=images.device)
        noisy = images[:, None] + self.sigma * noise.to(images.dtype)  # (N, draws, C, H, W), all of them in one batch
        hidden = self.hidden(draws, m)
        logits = self.model(self._denoised(noisy.flatten(0, 1), images.repeat_interleave(m, 0), hidden))
        logits = logits.view(n, m, *logits.shape[1:])
        mean = logits.log_softmax(2).logsumexp(1).sub(torch.tensor(float(m)).log().item())  # of the probabilities
        if self.answer == "mean":
            return mean
        votes = torch.zeros_like(mean).scatter_add_(
            1, logits.argmax(2), torch.ones_like(logits[:, :, 0])
        )  # (N, K, ...)
        # The share of the votes; where two have as many, the one with the higher mean probability comes first.
        return ((votes / m) * (1 - 1e-3) + 1e-3 * mean.exp() + 1e-12).log()

    def purify(self, images: Tensor) -> Tensor:
        """One draw, denoised, as the model gets to see it."""
        draws = draws_for(images, "noise") if self.randomised else None
        noisy = add_noise(images, self.sigma, draws) if draws and self.sigma else images
        return self._denoised(noisy, images, self.hidden(draws) if draws else None)

    def hidden(self, draws: Draws, times: int = 1) -> Tensor | None:
        """The patches of each image that stay hidden, as often as there are draws: (N * times, L)."""
        return self.denoiser.hide(self.hide, draws, times) if isinstance(self.denoiser, Denoiser) else None

    def _denoised(self, noisy: Tensor, images: Tensor, hidden: Tensor | None = None) -> Tensor:
        # A denoiser that looks at the image without noise too, as the paper's with its default targets, says so.
        more = [images] if sees_images(self.denoiser) else [] if hidden is None else [hidden]
        found = self.denoiser(noisy, *more)
        if found.shape != noisy.shape:
            raise UserError(
                f"the denoiser made {tuple(found.shape)} of images of shape {tuple(noisy.shape)}",
                "a module from noisy images to images of the same shape",
            )
        return self.clamp(found)

    def tuned(self, **settings: Any) -> De3:
        twin = super().tuned(**settings)
        twin._check()
        return twin

    def _check(self) -> None:
        if not 0 <= self.sigma <= 1:
            raise UserError(f"sigma={self.sigma:g}", "pixels are in [0, 1]", f"write sigma={self.sigma:g}/255")
        if self.draws < 1:
            raise UserError(f"draws={self.draws}", "at least 1 is needed")
        if not 0 <= self.hide < 1:
            raise UserError(f"hide={self.hide:g}", "a share of the patches below 1")
        if self.hide and not isinstance(self.denoiser, Denoiser):
            raise UserError(f"{a(self.denoiser)} cannot guess hidden patches", remedy="leave hide out")
        if self.answer not in ANSWERS:
            raise UserError(f"answer={self.answer!r}", f"one of {', '.join(ANSWERS)}")

    def stand_ins(self) -> dict[str, Model]:
        if self.exact_gradient:
            return {}
        return {"mean of draws": self.tuned(answer="mean")}  # a vote has no gradient

    def attack_surfaces(self) -> Sequence[Surface]:
        surfaces = list(super().attack_surfaces())
        if not self.on:
            return surfaces
        best = self.through("")  # every part of the stack as its best stand-in
        extra: dict[str, Model] = {"low frequency": LowFrequency(best)}
        if isinstance(best, De3):
            opened = best.around(best.model)
            opened.clamp = open_clamp
            extra["open clamp"] = opened
        for name, through in extra.items():
            several = Averaged(through, self.average_over) if self.randomised else through
            weight = self.average_over if self.randomised else 1
            surfaces.append(Surface(name, several, thorough=True, weight=weight))
        return surfaces

    def facts(self) -> dict[str, Any]:
        inner = self.model.facts()
        numbers = {name: write_value(getattr(self, name)) for name in ("sigma", "draws", "answer")}
        rare = {"hide": write_value(self.hide)} if self.hide else {}
        rare |= {"always": "true"} if self.always else {}
        source = self.source.but(model=inner["build"], **numbers, **rare)
        known = self.source.options and inner["build"]  # else it was made in Python, and nothing says how
        mine = {"classes": self.classes or inner["classes"], "size": self.size}
        return {**inner, **mine, "build": str(source) if known else ""}

    @property
    def build(self) -> str:
        return self.facts()["build"]

    @build.setter
    def build(self, text: str) -> None:
        """What a saved folder said: the same that `facts` says again."""


def clamp(images: Tensor) -> Tensor:
    return images.clamp(0, 1)


def sees_images(denoiser: nn.Module) -> bool:
    """Whether a denoiser declares that it takes the image without noise as well."""
    return bool(getattr(denoiser, "sees_images", False))
