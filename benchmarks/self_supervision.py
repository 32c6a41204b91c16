"""What a repair costs, beside a faithful loop of the published procedure, and what each leaves of the same attack.

    python benchmarks/self_supervision.py --fast FOLDER --paper FOLDER [--amortised FOLDER] [-n 128] [--rounds 3]

The folders are what `vallum harden MODEL --with self_supervision` left, with `preset=paper` for the second, and with
`self_supervision_amortised` for the third; all around the same model. The loop is Lawhon, Mao & Yang 2022 as their code
does it: forty steps with four views, shared by the whole batch, negatives from that batch, the first of three partners
counted as the only one, gradients of the weights computed and never used. It asks the same heads on the same network,
where theirs asked two more networks; so its count is lower than theirs, which was 512 times the static model.

Time is processor time; the sides take turns on the same images. Operations are those of convolutions and products.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import vallum
from vallum.defences.cost import cost_of
from vallum.defences.self_supervision import SelfSupervised
from vallum.defences.self_supervision.tasks.reconstruction import GREY
from vallum.defences.self_supervision.views import Box, cropped, recoloured, turned_all
from vallum.evaluation.statistics import rate
from vallum.images import Draws
from vallum.machine import machine
from vallum.models.model import Model
from vallum.threats import PGD

PUBLISHED = 512  # forward passes of a WideResNet-28-10, by arithmetic: forty steps of three tasks, as coded
GOALS = {"fast": 46.0, "amortised": 3.0}  # times the bare model's forward pass


class Published(Model):
    """The published procedure, in other words, with heads that were trained for it."""

    def __init__(
        self, defence: SelfSupervised, eps: float = 16 / 255, size: float = 2 / 255, steps: int = 40, views: int = 4
    ) -> None:
        super().__init__()
        self.model, self.defence = defence.bare, defence
        self.eps, self.size, self.steps, self.views = eps, size, steps, views
        self.classes, self.task = self.model.classes, self.model.task

    def forward(self, images: Tensor) -> Tensor:
        for weight in self.defence.parameters():
            weight.requires_grad_(True)
        with torch.enable_grad():
            noise = (torch.rand_like(images) * 2 - 1) * self.eps
            delta = (images + noise).clamp(0, 1) - images
            for step in range(self.steps):
                delta.requires_grad_()
                self.loss(images + delta, step).backward()
                assert delta.grad is not None
                ahead = (delta.detach() - self.size * delta.grad.sign()).clamp(-self.eps, self.eps)
                delta = (images + ahead).clamp(0, 1) - images
        return self.model(images + delta)

    def loss(self, images: Tensor, step: int) -> Tensor:
        heads, backbone = self.defence.objective.heads, self.defence.backbone
        shown = []
        for view in range(self.views):  # one draw for the whole batch
            draws = Draws(step, [view], "published")
            chance = draws.uniform(4, purpose="colour")
            box = Box.draw(draws, 0.08, "box")
            shown.append(recoloured(cropped(images, box), 1 + (chance[:, :3] * 2 - 1) * 0.8, chance[:, 3] < 0.2))
        lie = heads["contrastive"](backbone(torch.cat(shown)).pooled)  # (V N, D), unit length
        total = contrast(lie.unflatten(0, (self.views, -1)))

        ways = backbone(torch.cat([turned_all(images, quarter) for quarter in range(4)])).summary
        true = torch.arange(4).repeat_interleave(len(images))
        total = total + 50 * F.cross_entropy(heads["rotation"](ways), true)

        height, width = images.shape[2:]
        hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
        hole[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = True
        painted = heads["inpainting"](backbone(images.masked_fill(hole, GREY)).map)
        return total + 10 * ((painted - images).square() * hole).sum() / (3 * hole.sum() * len(images))


def contrast(lie: Tensor, temperature: float = 0.2) -> Tensor:
    """The published loss on (V, N, D): of the partners of each view the first is right, and the others are not."""
    views, n = lie.shape[:2]
    flat = lie.flatten(0, 1)
    near = flat @ flat.T / temperature
    owner = torch.arange(n).repeat(views)
    same, itself = owner[:, None] == owner, torch.eye(views * n, dtype=torch.bool)
    partners = near[same & ~itself].view(views * n, -1)
    others = near[~same].view(views * n, -1)
    return F.cross_entropy(torch.cat([partners, others], 1), torch.zeros(views * n, dtype=torch.long))


def seconds(model: Model, images: Tensor, repeats: int) -> float:
    started = time.process_time()
    with torch.no_grad():
        for _ in range(repeats):
            model(images)
    return (time.process_time() - started) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", required=True)
    parser.add_argument("--paper", required=True)
    parser.add_argument("--amortised", default="")
    parser.add_argument("--data", default="builtin:signs?split=test")
    parser.add_argument("--eps", type=float, default=8, help="of the attack on the bare model, in 1/255")
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folders = {"fast": given.fast, "paper": given.paper, "amortised": given.amortised}
    loaded = {name: vallum.load_model(folder) for name, folder in folders.items() if folder}
    paper = loaded["paper"]
    assert isinstance(paper, SelfSupervised)
    bare = paper.bare
    models: dict[str, Model] = {"static": bare, "published loop": Published(paper), **loaded}

    some = vallum.load_data(given.data).batch(range(given.n))
    counted = {name: cost_of(model, bare, some.images[:8], rounds=1).passes for name, model in models.items()}
    attack = PGD(given.eps / 255, steps=50, early_stop=False)
    found = attack(bare, some.images, some.labels, some.keys)
    right: dict[str, list[int]] = {name: [0, 0] for name in models}
    times: dict[str, list[float]] = {name: [] for name in models}
    for images, places in ((some.images, 0), (found, 1)):
        for part, labels in zip(images.split(given.batch), some.labels.split(given.batch), strict=True):
            for name, model in models.items():
                with torch.no_grad():
                    right[name][places] += int((model(part).argmax(1) == labels).sum())
    part = some.images[: given.batch]
    for _ in range(given.rounds):
        for name, model in models.items():
            times[name].append(seconds(model, part, repeats=10 if name == "static" else 1))
    rows = {}
    loop = statistics.median(times["published loop"])
    for name in models:
        middle = statistics.median(times[name])
        ratios = sorted(theirs / mine for theirs, mine in zip(times["published loop"], times[name], strict=True))
        rates = [rate(hits, given.n) for hits in right[name]]
        rows[name] = {
            "operations": counted[name], "images per second": round(len(part) / middle, 1),
            "times the loop's speed": [round(statistics.median(ratios), 2), round(ratios[0], 2), round(ratios[-1], 2)],
            "clean": [round(value, 4) for value in vars(rates[0]).values()],
            "oblivious": [round(value, 4) for value in vars(rates[1]).values()],
        }  # fmt: skip
        goal = f", goal at most {GOALS[name]:g}" if name in GOALS else ""
        print(
            f"{name}: {counted[name]:.1f} passes{goal} (published, as coded: {PUBLISHED}); "
            f"{len(part) / middle:.1f} images/s, {loop / middle:.2f} times the loop's; "
            f"clean {rates[0].value:.3f}, attacked {rates[1].value:.3f} [{rates[1].low:.3f}, {rates[1].high:.3f}]",
            flush=True,
        )
    if given.out is not None:
        settings = {name: getattr(given, name) for name in ("data", "eps", "n", "batch", "rounds")}
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({"machine": machine(), **settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
