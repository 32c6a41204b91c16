"""Any threat at an exact energy, so that noises and attacks can be drawn on one axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import IGNORE
from vallum.specs import build, parameter, split_arguments
from vallum.threats.base import THREATS, Bounded, Threat
from vallum.threats.compose import chain, refuse_unfitted, reseeded
from vallum.threats.noise import Noise
from vallum.threats.norms import farthest

# By norm, over so many values: the radius of a ball whose farthest points have a root mean square of 1, in L1 that of
# points equally far.
RADII: dict[str, Callable[[int], float]] = {"inf": lambda n: 1.0, "2": lambda n: n**0.5, "1": float}


def realised_rms(images: Tensor, changed: Tensor) -> Tensor:
    """(N,) in float64: the root mean square over an image's values of what was done to it."""
    return (changed.double() - images.double()).flatten(1).square().mean(1).sqrt()


def realised_snr(images: Tensor, changed: Tensor) -> Tensor:
    """(N,) in dB: 10 log10 of the image's mean square over that of what was done to it; infinite where nothing was."""
    signal = images.double().flatten(1).square().mean(1).sqrt()
    return 20 * torch.log10(signal / realised_rms(images, changed))


def scaled(images: Tensor, changed: Tensor, rms: Tensor) -> Tensor:
    """The point on the line from each image through its changed self, clamped to [0, 1], at this root mean square."""
    delta = changed - images
    radius = rms.double() * delta[0].numel() ** 0.5
    moved = farthest(delta.double(), radius, -images.double(), 1 - images.double())
    _check_reached(images, images + moved, rms)
    return (images + moved).to(images.dtype).clamp(0, 1)


def stronger(noise: Noise, images: Tensor, rms: Tensor, keys: Sequence[int] | Tensor | None) -> Tensor:
    """The noise, with one and the same draw, at the strength at which its root mean square after clamping is this."""
    draw = noise.draw(images, noise.draws(images, keys))

    def at(strength: Tensor) -> Tensor:
        return noise.blend(images, draw, strength.to(images.dtype).view(-1, 1, 1, 1)).clamp(0, 1)

    low, high = torch.zeros_like(rms), torch.full_like(rms, noise.most)
    _check_reached(images, at(high), rms)
    start = noise.strength_for(images, rms).to(rms).clamp(0, noise.most)
    for turn in range(40):  # the bits of a float32, and some
        middle = start if turn == 0 else torch.minimum(2 * low, (low + high) / 2).where(low > 0, (low + high) / 2)
        enough = realised_rms(images, at(middle)) >= rms
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return at(high)


def _check_reached(images: Tensor, changed: Tensor, rms: Tensor) -> None:
    reached = realised_rms(images, changed)
    short = (reached < rms * (1 - 1e-5)).nonzero()[:, 0].tolist()
    if short:
        first = short[0]
        raise UserError(
            f"image {first} cannot be changed by an RMS of {float(rms[first]):.4g}",
            f"in [0, 1] this threat reaches {float(reached[first]):.4g}",
            "ask for less",
        )


@THREATS.register("equal_energy")
@dataclass(frozen=True)
class EqualEnergy(Threat):
    """Another threat, its strength set for each image so that the RMS, or the SNR, after clamping is exactly this.

    Noise keeps its draw and changes its strength (salt and pepper to within one pixel). An attack gets the radius of
    that energy, and what it finds is moved along its line onto it. So is what anything else, as fog, makes of an
    image: it is blended with the image, or exaggerated. Two exceptions: an image that an attack gives back as it was,
    most often because it is wrong already, stays so; and where pixels were moved, two classes may lie on top of each
    other, so that pixels of a mask whose label has changed are ignored.

    >>> EqualEnergy("(gaussian)", snr=20).spec
    'equal_energy:of=(gaussian),snr=20'
    """

    of: str = parameter("the threat without its strength, in brackets: (gaussian), (pgd:norm=2,steps=20)")
    rms: float | None = parameter("root mean square of the change, images being in [0, 1]", None)
    snr: float | None = parameter("instead of rms: 10 log10 of the image's mean square over the change's, in dB", None)
    seed: int = parameter("added to the seed of the threat", 0)

    def __post_init__(self) -> None:
        if (self.rms is None) == (self.snr is None):
            raise UserError("equal_energy takes one energy", "rms or snr", "write equal_energy:of=(gaussian),snr=20")
        if self.rms is not None and not 0 < self.rms <= 1:
            raise UserError(f"rms={self.rms:g}", "it lies between 0 and 1")
        object.__setattr__(self, "_inner", self._read())  # what is wrong with it is said now

    @property
    def inner(self) -> Threat:
        """What is calibrated, at a strength that means nothing."""
        return self._inner  # type: ignore[attr-defined]

    @property
    def kind(self) -> Literal["clean", "noise", "corruption", "attack"]:  # type: ignore[override]
        return self.inner.kind

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        return self.inner.needs_gradient

    @property
    def moves_labels(self) -> bool:  # type: ignore[override]
        return self.inner.moves_labels

    @property
    def targeted(self) -> bool:
        return self.inner.targeted

    @property
    def passes(self) -> float:
        return self.inner.passes

    def passes_for(self, segments: bool) -> float:
        return self.inner.passes_for(segments)

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    def check_for_masks(self) -> None:
        self.inner.check_for_masks()

    def check_for_classes(self) -> None:
        self.inner.check_for_classes()

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.with_labels(model, images, labels, keys)[0]

    def with_labels(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if len(images) == 0:
            return images, labels
        signal = images.detach().flatten(1).double().square().mean(1).sqrt()
        rms = torch.full_like(signal, self.rms) if self.rms is not None else signal * 10 ** (-(self.snr or 0) / 20)
        if isinstance(self.inner, Noise):
            return stronger(self.inner, images, rms, keys), labels
        threat = self.inner
        if isinstance(threat, Bounded):
            radius = rms * RADII[threat.norm](images[0].numel())
            threat = dataclasses.replace(threat, eps=radius.float())  # type: ignore[type-var]
        found, truth = threat.with_labels(model, images, labels, keys)
        if threat.kind == "attack":
            rms = rms * (found != images).flatten(1).any(1)
        if labels.ndim == 3 and threat.moves_labels:
            truth = torch.where(truth == labels, labels, IGNORE)
        return scaled(images, found, rms), truth

    def _read(self) -> Threat:
        text = self.of.strip()
        if text.startswith("(") and text.endswith(")"):
            text = text[1:-1]
        name, _, rest = text.partition(":")
        made = THREATS[name] if "+" not in text else chain
        given = {argument for argument, _ in split_arguments(rest, text)} if "+" not in text else set()
        if isinstance(made, type) and issubclass(made, Bounded):
            if "eps" in given:
                raise UserError(f"{text!r} gives eps", "the energy decides the radius", "leave eps out")
            bounded = build(made, [*split_arguments(rest, text), ("eps", "1")], text)
            if bounded.norm not in RADII:
                raise UserError(
                    f"{text!r} has a radius in norm {bounded.norm}",
                    f"a norm in which an energy has a radius: {', '.join(RADII)}",
                    "how many pixels change says nothing of how much",
                )
            threat: Threat = bounded
        elif isinstance(made, type) and issubclass(made, Noise):
            if {made.strength_is, "snr"} & given:
                raise UserError(f"{text!r} gives a strength", "the energy decides it", "leave it out")
            threat = build(made, [*split_arguments(rest, text), (made.strength_is, "0")], text)
        else:
            threat = chain(text)
        refuse_unfitted(threat)
        return reseeded(threat, threat.seed + self.seed) if self.seed else threat
