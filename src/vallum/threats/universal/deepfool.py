"""The first universal attack, Moosavi-Dezfooli et al. 2017 (arXiv 1610.08401), as a baseline.

Image after image, whoever is not fooled yet adds the smallest change that fools it, by DeepFool; the sum is brought
back into the ball. It stops once enough are fooled, on the images that it has climbed on, and keeps what it has then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS
from vallum.threats.norms import norm_named
from vallum.threats.search import frozen
from vallum.threats.slope import slope_of
from vallum.threats.universal.ascent import Ball, Counter
from vallum.threats.universal.base import Added
from vallum.threats.universal.pool import Pool

OVERSHOOT, RIVALS, INNER = 0.02, 10, 10


@THREATS.register("universal_deepfool")
@dataclass(frozen=True)
class UniversalDeepFool(Added):
    """The DeepFool-based universal perturbation: slower and weaker than `universal`, and often cited.

    >>> UniversalDeepFool(eps=8 / 255).spec
    'universal_deepfool:eps=8/255'
    """

    eps: float = parameter("radius", 10 / 255)
    norm: Literal["inf", "2"] = parameter("in which the radius is measured", "inf")
    fooled: float = parameter("stop once so large a share is fooled", 0.8)
    rounds: int = parameter("over the images, at most", 10)
    images: int = parameter("how many it is fitted on, a quarter of them to stop by", 1024)
    data: str | None = parameter("what it is fitted on, as a data source; none: images that are not evaluated", None)
    seed: int = parameter("of the images and their order", 0)

    needs_gradient: ClassVar[bool] = True
    refuses_masks: ClassVar[str] = "it crosses one boundary for each image: take universal, which takes both"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("rounds", 1), ("images", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name}={getattr(self, name)}", f"at least {least} is needed")
        if not 0 < self.fooled <= 1:
            raise UserError(f"fooled={self.fooled:g}", "a share of the images, above 0 and at most 1")

    @property
    def fitting_passes(self) -> float:
        return self.images * self.rounds * (1 + 3.0 * RIVALS)

    def search(self, model: Any, pool: Pool) -> tuple[Tensor, dict[str, Any]]:
        first, spent = pool.batch(pool.fit[:1]), Counter()
        if first.labels.ndim > 1:
            self.check_for_masks()
        delta, ball, share, rounds = (
            torch.zeros_like(first.images),
            Ball(norm_named(self.norm), float(self.eps)),
            0.0,
            0,
        )
        with frozen(model):
            for rounds in range(1, self.rounds + 1):
                for index in pool.stream(Draws(self.seed, [rounds], "deepfool"), 1, len(pool.fit)):
                    image = pool.batch(index).images
                    if not len(image):
                        continue
                    with torch.no_grad():
                        before, after = model(torch.cat([image, (image + delta).clamp(0, 1)])).argmax(1).tolist()
                    spent.forwards += 2
                    if before == after:
                        change = deepfool(model, (image + delta).clamp(0, 1), spent)
                        delta = ball.step(delta + change, torch.zeros_like(delta), 0.0)
                share = self._share_fooled(model, pool, delta, spent)
                if share >= self.fooled:
                    break
        facts = {"goal": "fooling", "images": len(pool.fit), "chosen on": len(pool.select), "fooled": share}
        return delta[0], {**facts, "rounds": rounds, "forwards": spent.forwards, "backwards": spent.backwards}

    def _share_fooled(self, model: Any, pool: Pool, delta: Tensor, spent: Counter) -> float:
        changed, count = 0, 0
        for indices in pool.selection(64):
            images = pool.batch(indices).images
            with torch.no_grad():
                moved = model((images + delta).clamp(0, 1)).argmax(1)
                changed += int((moved != model(images).argmax(1)).sum())
            count, spent.forwards = count + len(images), spent.forwards + 2 * len(images)
        return changed / max(count, 1)


def deepfool(model: Any, image: Tensor, spent: Counter) -> Tensor:
    """(1, C, H, W) the least that takes `image` over the nearest border, in Euclidean length, times 1 + overshoot."""
    change, label, rivals = torch.zeros_like(image), torch.zeros(()), torch.zeros(0)
    for step in range(INNER):
        point = (image + (1 + OVERSHOOT) * change).requires_grad_()
        (logits,) = model(point)
        spent.forwards += 1
        if step == 0:
            label, *rest = logits.argsort(descending=True)[: RIVALS + 1]
            rivals = torch.stack(rest)
        if logits.argmax() != label:
            break
        leads = logits[rivals] - logits[label]  # (R,) negative
        slopes = torch.stack([slope_of(lead, point, keep=True)[0] for lead in leads])
        spent.backwards += len(leads)
        lengths = slopes.flatten(1).norm(dim=1).clamp_min(1e-12)
        nearest = (leads.abs() / lengths).argmin()
        change = change + ((leads[nearest].abs() + 1e-4) / lengths[nearest] ** 2 * slopes[nearest])[None].detach()
    return (1 + OVERSHOOT) * change
