"""What is left of a defence when everybody who ever broke one of its kind has tried, per image and surface.

The surfaces are those that the defence declares. What is different from `vallum evaluate --adaptive full`: every search
starts where the bare model's answer is worst (the highest margin that several climbs found there, also for images on
which it stands), runs on a copy with batch norm folded away, and may leave out images that have fallen already. What
was found is judged by the defence itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from controls import quick
from torch import Tensor

from vallum.defences import Defence
from vallum.defences.base import surfaces_of
from vallum.defences.chance import drawing
from vallum.defences.self_supervision import SelfSupervised
from vallum.defences.surface import Surface, black_box
from vallum.images import Batch
from vallum.models.model import Model
from vallum.threats import APGD, PGD, Square, Strong, TargetedAPGD
from vallum.threats.fast import folded
from vallum.threats.losses import loss_named, margin
from vallum.threats.search import Best, frozen

Rights = dict[str, list[int]]  # of each surface 1 where the answer was right, 0 where not, per image


def right(model: Model, images: Tensor, labels: Tensor, draws: int = 1, known: bool = False) -> Tensor:
    """(N,) whether the answer is right in most of the draws; there is one where nothing is drawn."""
    hits = []
    for number in range(draws):
        with drawing(0 if known else 1, number, known), torch.no_grad():
            hits.append(torch.cat([model(part).argmax(1) for part in images.split(64)]) == labels)
    return torch.stack(hits).float().mean(0) > 0.5


@dataclass(frozen=True)
class Points:
    """What is found on the bare model alone: once for all defences around it."""

    oblivious: Tensor  # by the attack that the method was published with, though with more steps
    strong: Tensor  # by the strongest attack there is here
    highest: Tensor  # the highest margin that several climbs found, with no regard to whether an image falls

    @classmethod
    def on(cls, bare: Model, batch: Batch, eps: float, steps: int = 20) -> Points:
        search, given = folded(bare, batch.images), (batch.images, batch.labels, batch.keys)
        near = TargetedAPGD(eps, steps=15, classes=3, early_stop=False)
        found = [APGD(eps, steps=steps, early_stop=False)(search, *given), near(search, *given)]
        with torch.no_grad():
            leads = torch.stack([margin(bare(points), batch.labels) for points in found])  # (attacks, N)
        highest = torch.stack(found)[leads.argmax(0), torch.arange(len(batch.images))]
        return cls(PGD(eps, steps=steps, early_stop=False)(search, *given), Strong(eps)(bare, *given), highest)


def ascend(
    through: Callable[[Tensor], Tensor], batch: Batch, start: Tensor, eps: float, steps: int, loss: str, stop: bool
) -> Tensor:
    """Signed steps from these points, ever shorter; the best point that was met, by what it is searched through."""
    value, labels, images = loss_named(loss), batch.labels, batch.images
    best = Best(images, labels, targeted=False)
    rows, point = torch.arange(len(images)), start.clone()
    for step in range(steps + 1):
        point = point.detach().requires_grad_(step < steps)
        with torch.set_grad_enabled(step < steps):
            logits = through(point)
            values = value(logits, labels[rows])
        best.offer(rows, point.detach(), logits.detach(), values.detach())
        if step == steps:
            break
        (gradient,) = torch.autograd.grad(values.sum(), point)
        stays = ~best.has_fallen[rows] if stop else torch.ones_like(rows, dtype=torch.bool)
        rows, point, gradient = rows[stays], point.detach()[stays], gradient[stays]
        if not len(rows):
            break
        ahead = point + gradient.sign() * eps * max(0.5 * (1 - step / steps), 0.05)
        point = torch.min(torch.max(ahead, images[rows] - eps), images[rows] + eps).clamp(0, 1)
    return best.images


def attacked(
    defence: Model,
    batch: Batch,
    eps: float,
    points: Points,
    names: Sequence[str] | None = None,
    steps: int = 20,
    losses: Sequence[str] = ("margin",),
    cascade: bool = False,
    draws: int = 1,
    queries: int = 100,
    copy: Callable[[SelfSupervised], SelfSupervised] = lambda defence: defence,
) -> Rights:
    """For each surface whether the defence is right about what was found there; "clean" and "oblivious" beside them.

    Under `cascade` an image that has fallen is not attacked again, and stays fallen: the last surface is the union.
    `copy` makes what is searched on cheaper still.
    """
    labels, found = batch.labels, dict[str, Tensor]()
    found["clean"] = right(defence, batch.images, labels, draws)
    found["oblivious"] = right(defence, points.oblivious, labels, draws)
    found["transfer"] = right(defence, points.highest, labels, draws)
    found["transfer, strong"] = right(defence, points.strong, labels, draws)
    search = copy(quick(defence, batch.images)) if isinstance(defence, SelfSupervised) else defence
    surfaces = {s.name: s for s in surfaces_of(search)} if isinstance(defence, Defence) else {}
    standing = torch.stack(list(found.values())).all(0)
    for name in names if names is not None else [n for n in surfaces if n != "transfer"]:
        if name not in surfaces:
            continue
        these = standing if cascade else found["clean"]
        rows = these.nonzero()[:, 0]
        verdict = found["clean"].clone() if not cascade else standing.clone()
        if len(rows):
            part = Batch(batch.images[rows], labels[rows], batch.keys[rows], [batch.names[i] for i in rows.tolist()])
            for loss in losses:
                reached = _search(surfaces[name], part, points.highest[rows], eps, steps, loss, queries)
                verdict[rows] &= right(defence, reached, part.labels, draws, surfaces[name].known_draw)
        found[name] = verdict
        if surfaces[name].in_union:
            standing = standing & verdict
    found["union"] = standing
    return {name: verdict.int().tolist() for name, verdict in found.items()}


def _search(surface: Surface, part: Batch, start: Tensor, eps: float, steps: int, loss: str, queries: int) -> Tensor:
    with frozen(surface.through), drawing(2, known=surface.known_draw):
        if surface.attack is black_box:
            return Square(eps, queries=queries)(surface.through, part.images, part.labels, part.keys)
        return ascend(surface.through, part, start, eps, steps, loss, stop=surface.attack is None)
