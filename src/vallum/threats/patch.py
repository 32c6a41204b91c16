"""Adversarial patches, Brown et al. 2017 (arXiv 1712.09665): every pixel of a small square is the attacker's.

Each image gets a patch of its own, climbed by signed steps with momentum. Where it may end up a little elsewhere,
turned or larger, each step climbs the mean over such placements (expectation over transformations, Athalye et al.
2018, arXiv 1707.07397).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Budget, Threat, check_each, is_share, positive
from vallum.threats.losses import loss_named
from vallum.threats.minimal import annealed
from vallum.threats.norms import at_least_float32
from vallum.threats.placement import Area, Placement, covered, paste, side_for, window_sums
from vallum.threats.search import Best, frozen
from vallum.threats.slope import slope_of


@THREATS.register("patch")
@dataclass(frozen=True)
class Patch(Threat):
    """A square that covers a share of the image, wherever it is put; in a mask, what it covers is ignored from then on.

    Without jitter an image keeps the best that any step, at any of its places, has found. With jitter the image that
    comes back shows the patch at a placement that no step has seen.

    >>> Patch(size=0.05, position="centre").spec
    'patch:size=0.05,position=centre'
    """

    size: float = parameter("share of the image's pixels that it covers at most")
    position: Literal["sensitive", "random", "centre"] = parameter(
        "where it lies; sensitive: where the gradient is largest", "sensitive"
    )
    places: int = parameter("how many positions are tried", 1)
    steps: int = parameter("how often the patch is changed, at each place", 100)
    step_size: float = parameter("of the first step, colours being in [0, 1]; the last is a tenth of it", 0.1)
    decay: float = parameter("what is left of the past at each step", 0.9)
    shift: float = parameter("jitter: by how many pixels it may end up elsewhere", 0.0)
    rotation: float = parameter("jitter: by how many degrees it may end up turned, to either side", 0.0)
    scale: float = parameter("jitter: how many times larger or smaller it may end up", 1.0)
    samples: int = parameter("placements whose mean each step climbs, where there is jitter", 4)
    loss: Literal["margin", "cross_entropy", "dlr"] = parameter("what is raised", "margin")
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    early_stop: bool = parameter("let an image go once it has fallen", True)
    seed: int = parameter("of first colours and placements", 0)

    kind = "attack"
    needs_gradient: ClassVar[bool] = True
    moves_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.size <= 1:
            raise UserError(f"size={self.size:g}", "a share of the image, between 0 and 1", "write patch:size=0.05")
        for name in ("steps", "places", "samples"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)}", "at least 1 is needed")
        check_each(self, positive, "a length is positive", "step_size")
        check_each(self, is_share, "a share, between 0 and 1", "decay")
        jitter = self.shift, self.rotation, self.scale
        if not (min(jitter) >= 0 and self.scale >= 1 and max(jitter) < float("inf")):
            raise UserError("a jitter is negative", "shift and rotation are 0 or more, scale is 1 or more")
        if self.places > 1 and (self.jitters or self.position == "centre"):
            raise UserError(f"places={self.places}", "there is one place where it is jittered or in the centre")

    @property
    def budget(self) -> Budget:
        return Budget(Area(), self.size)

    @property
    def jitters(self) -> bool:
        return self.shift > 0 or self.rotation > 0 or self.scale > 1

    @property
    def passes(self) -> float:
        return self.places * (3.0 * self.steps * (self.samples if self.jitters else 1) + 1)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self._patched(model, images, labels, keys)[0]

    def with_labels(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        patched, there = self._patched(model, images, labels, keys)
        return patched, covered(labels, there)

    def _patched(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The images with their patches, and where these lie: (N, 1, H, W)."""
        draws, (height, width) = self.draws(images, keys), images.shape[2:]
        side = side_for(self.size, images, self.scale if self.jitters else None)
        with frozen(model):
            images, labels = images.detach().clone(), labels.clone()
            there = torch.zeros_like(images[:, :1])
            if not len(images):
                return images, there
            best = Best(images, labels, self.targeted)
            room = self._room(model, images, labels, side) if self.position == "sensitive" else None
            for turn in range(self.places):
                which = best.standing() if self.early_stop else best.everyone()
                draw, clean = draws.take(which).of(f"place {turn}"), images[which]
                if not len(which):
                    break
                if room is not None:
                    place = sensitive(room, which, side)
                elif self.position == "centre" and self.jitters:
                    place = Placement.centred(clean)
                elif self.position == "centre":  # on whole pixels
                    corner = torch.tensor([(height - side) // 2, (width - side) // 2]) + side / 2
                    place = Placement.at(*corner.to(clean)[:, None].expand(2, len(which)))
                else:
                    place = Placement.drawn(draw, clean, (side, side))
                start = draw.uniform(clean.shape[1], side, side, purpose="colours", device=clean.device).to(clean)
                if self.jitters:
                    patch = self._climb_anywhere(model, clean, labels[which], start, place, draw)
                    return paste(clean, patch, self._jittered(place, draw.of("shown"), clean, side))
                found, over = self._climb(model, clean, labels[which], start, place)
                better = best.merge(which, found)
                there[which[better]] = over[better]
        return best.images, there

    def _climb(
        self, model: nn.Module, images: Tensor, labels: Tensor, patch: Tensor, place: Placement
    ) -> tuple[Best, Tensor]:
        """At one place: the best image that any step made, and where the patch lies in it."""
        loss, sign = loss_named(self.loss), -1.0 if self.targeted else 1.0
        over = paste(images, patch, place)[1]
        labels = covered(labels, over)
        best = Best(images, labels, self.targeted)
        which, velocity = best.everyone(), torch.zeros_like(patch)
        for step in range(self.steps + 1):
            last = step == self.steps
            patch = patch.detach().requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                point = paste(images[which], patch, place.take(which))[0]
                logits = model(point)
                values = sign * loss(logits, labels[which])
            best.offer(which, point.detach(), logits.detach(), values.detach())
            stays = ~best.has_fallen[which] if self.early_stop else torch.ones_like(which, dtype=torch.bool)
            if last or not bool(stays.any()):
                break
            gradient = slope_of(values, patch)
            which, velocity = which[stays], velocity[stays]
            patch, velocity = self._moved(patch.detach()[stays], gradient[stays], velocity, step)
        return best, over

    def _climb_anywhere(
        self, model: nn.Module, images: Tensor, labels: Tensor, patch: Tensor, place: Placement, draws: Draws
    ) -> Tensor:
        """About one place: the patch after the last step, for what one step sees is no measure of the others."""
        loss, sign = loss_named(self.loss), -1.0 if self.targeted else 1.0
        velocity = torch.zeros_like(patch)
        for step in range(self.steps):
            gradient = torch.zeros_like(patch)
            for sample in range(self.samples):
                patch = patch.detach().requires_grad_()
                jittered = self._jittered(place, draws.of(f"step {step} {sample}"), images, patch.shape[2])
                point, over = paste(images, patch, jittered)
                values = sign * loss(model(point), covered(labels, over.detach()))
                gradient = gradient + slope_of(values, patch)
            patch, velocity = self._moved(patch.detach(), gradient, velocity, step)
        return patch

    def _moved(self, patch: Tensor, gradient: Tensor, velocity: Tensor, step: int) -> tuple[Tensor, Tensor]:
        precision = at_least_float32(gradient)
        length = gradient.flatten(1).double().abs().mean(1).clamp_min(1e-30).to(precision)
        velocity = velocity * self.decay + gradient / length.view(-1, 1, 1, 1)
        stride = annealed(self.step_size, self.step_size / 10, step, self.steps)
        return (patch + stride * velocity.sign().to(patch.dtype)).clamp(0, 1), velocity

    def _jittered(self, place: Placement, draws: Draws, images: Tensor, side: int) -> Placement:
        moved = place.jittered(draws, self.shift, self.rotation, (1 / self.scale, self.scale))
        return moved.inside(images, (side, side))

    def _room(self, model: nn.Module, images: Tensor, labels: Tensor, side: int) -> Tensor:
        """(N, H', W'): how much of the gradient each place for the patch would hold."""
        point = images.clone().requires_grad_()
        gradient = slope_of(loss_named(self.loss)(model(point), labels), point)
        return window_sums(gradient.abs().sum(1), side)


def sensitive(room: Tensor, which: Tensor, side: int) -> Placement:
    """The place that holds most for each image in `which`; `room` forgets it and those that overlap it by half."""
    flat = room[which].flatten(1).argmax(1)
    top, left = flat // room.shape[2], flat % room.shape[2]
    rows, columns = (torch.arange(size, device=room.device) for size in room.shape[1:])
    near_rows = (rows - top[:, None]).abs() <= side // 2  # (n, H')
    near_columns = (columns - left[:, None]).abs() <= side // 2
    room[which] = room[which].masked_fill(near_rows[:, :, None] & near_columns[:, None], -1.0)
    return Placement.at(top.to(room) + side / 2, left.to(room) + side / 2)
