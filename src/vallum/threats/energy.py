"""Any threat at an exact energy, so that noises and attacks can be drawn on one axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.specs import build, parameter, split_arguments
from vallum.threats.base import THREATS, Bounded, Threat
from vallum.threats.compose import chain, reseeded
from vallum.threats.noise import Noise
from vallum.threats.norms import norm_named


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
    # The projection of a point far out on a ball within the box is its clamped multiple that lies on the sphere.
    far = delta.double() / delta.abs().flatten(1).amax(1).double().clamp_min(1e-30).view(-1, 1, 1, 1) * 1e8
    radius = rms.double() * delta[0].numel() ** 0.5
    moved = norm_named("2").project(far, radius, -images.double(), 1 - images.double())
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
    image: it is blended with the image, or exaggerated.

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
        self._threat(1.0, 1)  # what is wrong with it is said now

    @property
    def kind(self) -> Literal["clean", "noise", "corruption", "attack"]:  # type: ignore[override]
        return self._threat(1.0, 1).kind

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        return self._threat(1.0, 1).needs_gradient

    @property
    def targeted(self) -> bool:
        return self._threat(1.0, 1).targeted

    @property
    def passes(self) -> float:
        return self._threat(1.0, 1).passes

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        if len(images) == 0:
            return images
        signal = images.detach().flatten(1).double().square().mean(1).sqrt()
        rms = torch.full_like(signal, self.rms) if self.rms is not None else signal * 10 ** (-(self.snr or 0) / 20)
        threat = self._threat(rms, images[0].numel())
        if isinstance(threat, Noise):
            return stronger(threat, images, rms, keys)
        return scaled(images, threat(model, images, labels, keys), rms)

    def _threat(self, rms: float | Tensor, values: int) -> Threat:
        """What is calibrated, its radius being that of this root mean square over so many values."""
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
            radius = _radius(bounded.norm, rms, values)
            threat: Threat = dataclasses.replace(bounded, eps=radius)  # type: ignore[type-var]
        elif isinstance(made, type) and issubclass(made, Noise):
            if {made.strength_is, "snr"} & given:
                raise UserError(f"{text!r} gives a strength", "the energy decides it", "leave it out")
            threat = build(made, [*split_arguments(rest, text), (made.strength_is, "0")], text)
        else:
            threat = chain(text)
        return reseeded(threat, threat.seed + self.seed) if self.seed else threat


def _radius(norm: str, rms: float | Tensor, values: int) -> Any:
    """The radius of a ball whose farthest points have this root mean square, in L1 that of points equally far."""
    radius = rms * {"inf": 1.0, "2": values**0.5, "1": float(values)}[norm]
    return radius.float() if isinstance(radius, Tensor) else radius
