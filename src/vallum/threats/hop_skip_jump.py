"""HopSkipJump, Chen et al. 2020 (arXiv 1904.02144): along the boundary of a decision, seeing the decision alone.

It stands on the boundary, on the side where the image has fallen. Of random directions some lead back over it and
some do not: their mean, weighted by that, points away from it. A step is taken that way, and from where it leads the
way to the image is halved until the boundary is met again, nearer than before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vallum.images import Draws
from vallum.specs import parameter
from vallum.threats.base import THREATS, Budget, check_each, check_radius
from vallum.threats.given import check_known
from vallum.threats.losses import fallen
from vallum.threats.minimal import Minimal
from vallum.threats.norms import norm_named, per_image

ROWS, DRAWN = 256, 32  # images in one pass; directions that an image draws at once
TRIES = 64  # at a first image that falls
HALVINGS = 12  # of a step that led back over the boundary


@THREATS.register("hop_skip_jump", "hsj")
@dataclass(frozen=True)
class HopSkipJump(Minimal):
    """The nearest image that falls, found by one who is told the answer and nothing of how sure it is.

    With `eps` it is an attack in a ball: an image lets go once it is inside, and one that never is stays as it was.

    >>> HopSkipJump(eps=0.5, queries=1000).spec
    'hop_skip_jump:queries=1000,eps=0.5'
    """

    norm: Literal["2", "inf"] = parameter("in which the distance is measured", "2")
    queries: int = parameter("forward passes at most", 2000)
    eps: float | Tensor | None = parameter(
        "a radius beyond which nothing counts; none: the nearest is looked for", None
    )
    directions: int = parameter("of the first estimate; later ones take more, as the root of their number", 30)
    targeted: bool = parameter("drive each image towards its label instead of away", False)
    seed: int = parameter("of first images and directions", 0)

    needs_gradient: ClassVar[bool] = False
    refuses_masks: ClassVar[str] = (
        "one answer for all pixels at once is none to walk along: take square or random_search, which see logits alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "norm", norm_named(self.norm).name)
        if self.eps is not None:
            check_radius(self.eps, self.norm)
        check_each(self, lambda count: count >= 1, "at least 1 is needed", "directions")

    @property
    def budget(self) -> Budget | None:
        return None if self.eps is None else Budget(norm_named(self.norm), self.eps)

    @property
    def passes(self) -> float:
        return float(self.queries)

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        draws, norm = self.draws(images, keys), norm_named(self.norm)
        search = Search(self, model, images, labels)
        radius = per_image(0.0 if self.eps is None else self.eps, search.clean)
        search.offer(torch.arange(len(images), device=images.device), search.clean)
        search.find_a_start(draws)
        turn = 0
        while True:
            turn += 1
            going = search.distance.isfinite() & (search.distance > radius) & (search.left > search.halvings)
            which = going.nonzero()[:, 0]
            if not len(which):
                break
            at = search.onto_the_boundary(which)
            count = (search.left[which] - search.halvings - HALVINGS).clamp(0, int(self.directions * turn**0.5))
            away = search.away_from_boundary(which, at, count, turn, draws.take(which).of(f"turn {turn}"))
            stride = norm.length(at - search.clean[which]).to(at) / turn**0.5
            search.step(which, at, norm.steepest(away, torch.ones_like(stride), at, at), stride)
        if self.eps is None:
            return search.nearest
        inside = (search.distance <= radius).view(-1, 1, 1, 1)
        return torch.where(inside, search.nearest, search.clean)


class Search:
    """Where the search stands for each image, and what it may still ask."""

    def __init__(self, attack: HopSkipJump, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.attack, self.model, self.norm = attack, model, norm_named(attack.norm)
        self.clean, self.labels = images.detach().clone(), labels.clone()
        self.highest = int(labels.max()) if len(labels) else 0
        self.nearest, self.at = self.clean.clone(), self.clean.clone()  # the best so far; where it goes on from
        self.distance = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
        self.left = torch.full((len(images),), attack.queries, device=images.device)
        dimension = images.shape[1:].numel()
        # How near the boundary is met, and how far from there directions reach, as shares of the way to the image.
        # The paper meets it ever so much nearer and reaches less far: more queries on the way, no better directions.
        self.halvings = math.ceil(math.log2(dimension)) + 1
        self.reach = 0.1 if attack.norm == "2" else dimension**-0.5

    def ask(self, which: Tensor, points: Tensor) -> Tensor:
        """Whether each point makes its image fall."""
        answers = []
        for some, rows in zip(points.split(ROWS), which.split(ROWS), strict=True):
            logits = self.model(some)
            if self.highest >= logits.shape[1]:  # no class that a model could be led away from
                check_known(self.labels, logits.shape[1])
            answers.append(fallen(logits, self.labels[rows], self.attack.targeted))
        self.left.index_add_(0, which, torch.full_like(which, -1))
        return torch.cat(answers)

    def offer(self, which: Tensor, points: Tensor) -> Tensor:
        """The same for one point per image; the nearest of those that do is kept."""
        falls = self.ask(which, points)
        length = self.norm.length(points - self.clean[which])
        nearer = falls & (length < self.distance[which])
        self.nearest[which[nearer]], self.distance[which[nearer]] = points[nearer], length[nearer]
        return falls

    def find_a_start(self, draws: Draws) -> None:
        """Noise that falls: of single values first, then of ever larger squares, and again."""
        channels, height, width = self.clean.shape[1:]
        grains = [2**k for k in range(max(height, width).bit_length())]
        for attempt in range(TRIES):
            which = (self.distance.isinf() & (self.left > 0)).nonzero()[:, 0]
            if not len(which):
                return
            grain = grains[attempt % len(grains)]
            rows, columns = -(-height // grain), -(-width // grain)
            noise = draws.take(which).uniform(channels, rows, columns, purpose=f"start {attempt}", device=which.device)
            noise = noise.repeat_interleave(grain, 2).repeat_interleave(grain, 3)[:, :, :height, :width].to(self.clean)
            falls = self.offer(which, noise)
            self.at[which[falls]] = noise[falls]

    def onto_the_boundary(self, which: Tensor) -> Tensor:
        """From where each search stands towards its image, as far as it still falls."""
        clean, far = self.clean[which], self.at[which]
        outer = torch.ones(len(which), dtype=torch.float64, device=far.device)
        inner, found = torch.zeros_like(outer), far
        length = self.norm.length(far - clean)

        def between(share: Tensor) -> Tensor:
            if self.norm.name == "2":
                return clean + (far - clean) * share.to(far).view(-1, 1, 1, 1)
            size = (length * share).to(far).view(-1, 1, 1, 1)
            return clean + (far - clean).clamp(-size, size)

        for _ in range(self.halvings):
            middle = (inner + outer) / 2
            point = between(middle).clamp(0, 1)
            falls = self.offer(which, point)
            inner, outer = torch.where(falls, inner, middle), torch.where(falls, middle, outer)
            found = torch.where(falls.view(-1, 1, 1, 1), point, found)
        self.at[which] = found
        return found

    def away_from_boundary(self, which: Tensor, at: Tensor, count: Tensor, turn: int, draws: Draws) -> Tensor:
        """A mean of `count` random directions, each weighted by whether the image still falls a little along it."""
        reach = self.norm.length(at - self.clean[which]).to(at) * self.reach
        reach = (torch.full_like(reach, 0.1) if turn == 1 else reach).clamp_min(1e-6).view(-1, 1, 1, 1)
        total, weighted, balance = torch.zeros_like(at), torch.zeros_like(at), torch.zeros_like(reach)
        for first in range(0, int(count.max()), DRAWN):
            moves = self._directions(draws.of(first), at)  # (n, DRAWN, C, H, W)
            points = (at[:, None] + moves * reach[:, None]).clamp(0, 1)
            asked = torch.arange(first, first + DRAWN, device=at.device) < count[:, None]  # (n, DRAWN)
            row, place = asked.nonzero().unbind(1)
            says = torch.zeros(asked.shape, dtype=at.dtype, device=at.device)
            says[row, place] = self.ask(which[row], points[row, place]).to(at) * 2 - 1
            moves = (points - at[:, None]) / reach[:, None]  # as they are within the box
            for j in range(DRAWN):  # one after the other: the sum is the same whatever the batch
                one, counts = says[:, j].view(-1, 1, 1, 1), asked[:, j].view(-1, 1, 1, 1)
                balance, weighted = balance + one, weighted + one * moves[:, j]
                total = total + counts * moves[:, j]
        mean = balance / count.clamp_min(1).view(-1, 1, 1, 1)
        return torch.where(mean.abs() < 1, weighted - mean * total, weighted)

    def _directions(self, draws: Draws, like: Tensor) -> Tensor:
        shape = (DRAWN, *like.shape[1:])
        if self.norm.name == "inf":
            return (draws.uniform(*shape, purpose="directions", device=like.device) * 2 - 1).to(like.dtype)
        moves = draws.normal(*shape, purpose="directions", device=like.device).to(like.dtype)
        return moves / moves.flatten(2).norm(dim=2).clamp_min(1e-12)[..., None, None, None]

    def step(self, which: Tensor, at: Tensor, move: Tensor, stride: Tensor) -> None:
        """As far as `stride` says, or half as far, or a quarter, until it falls; else it stays."""
        for _ in range(HALVINGS):
            if not len(which):
                return
            point = (at + move * stride.view(-1, 1, 1, 1)).clamp(0, 1)
            falls = self.offer(which, point)
            self.at[which[falls]] = point[falls]
            stays = ~falls & (self.left[which] > 0)
            which, at, move, stride = which[stays], at[stays], move[stays], stride[stays] / 2
