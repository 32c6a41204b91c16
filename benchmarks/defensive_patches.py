"""What it takes to make defensive patches: for how many classes, and beside the published procedure.

    python benchmarks/defensive_patches.py time --models builtin:signs_resnet builtin:signs_resnet_robust \
        builtin:signs_vit runs/efficientnet
    python benchmarks/defensive_patches.py classes
    python benchmarks/defensive_patches.py published --models builtin:signs_resnet runs/resnet_b

The two nets that are not shipped were trained by

    vallum train net:resnet --data "builtin:signs?split=train&n=20000" --epochs 10 --seed 1 --validation 0.02 \
        --out runs/resnet_b
    vallum train timm:test_efficientnet --data "builtin:signs?split=train&n=20000" --epochs 10 --lr 0.05 \
        --mean 0.5 --std 0.25 --validation 0.02 --out runs/efficientnet

`published` is the procedure of "Defensive Patches for Robust Recognition in the Physical World" as its released code
has it, in words of our own: a prior on an empty canvas for one model (Adam 0.001, ten epochs of batches of 32), then
rounds in which each model trains a copy of the patches for an epoch (Adam 0.03, begun anew) and an epoch of steps pulls
the patches to the copies by pixel Grams (Adam, 0.03 falling by thirds). What that code computes and throws away is not
charged, nor is choosing a round. A pass is an image through a model and back; a pass forward alone counts a third.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import vallum
from vallum.data import Data
from vallum.defences.defensive_patches import PatchSet
from vallum.defences.defensive_patches.consensus import merged_by_gram
from vallum.defences.defensive_patches.makers import third
from vallum.defences.defensive_patches.shapes import Ring
from vallum.models import Model
from vallum.threats import threat

HARD = ("gaussian:std=0.2", "fog:4", "contrast:4", "motion_blur:3")


def environment() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def seconds_for(models: Sequence[str], classes: int, images: int, steps: int | None, start: str | None) -> Any:
    """Wall and processor seconds of making patches for signs, and the patches."""
    data = some_classes(classes, images)
    networks = [vallum.load_model(model, classes=data.classes) for model in models]
    given: dict[str, Any] = {} if steps is None else {"steps": steps}
    wall, processor = time.perf_counter(), time.process_time()
    patches = vallum.make_patches(networks, data, images=images, start=start, quiet=True, **given)
    return time.perf_counter() - wall, time.process_time() - processor, patches


@functools.lru_cache
def some_classes(classes: int, images: int) -> Data:
    """So many images of the first classes, in memory, so that reading them is no part of the time."""
    data = vallum.load_data(f"builtin:signs?split=train&n={2 * images * 43 // classes}")
    batch = data.batch(range(len(data)))
    own = (batch.labels < classes).nonzero()[:images, 0]
    return vallum.load_data((batch.images[own], batch.labels[own]), classes=data.classes[:classes])


def time_all(arguments: argparse.Namespace) -> None:
    wall, processor, patches = seconds_for(arguments.models, 43, 4000, arguments.steps, None)
    said = {name: round(share, 4) for name, share in patches.made["told"].items()}
    print(
        f"43 classes, {len(arguments.models)} models: {wall:.0f} s of wall, {processor:.0f} s of processor", flush=True
    )
    print(f"{patches.made['passes']:,} passes, {patches.made['settings']['steps']} steps; told: {json.dumps(said)}")


def compare_classes(arguments: argparse.Namespace) -> None:
    """Untrained nets cost what trained ones do, and may have any number of classes."""
    print("| start | classes | median processor seconds | all |\n| --- | --- | --- | --- |")
    for start in ("noise", "prior"):
        found: dict[int, list[float]] = {10: [], 43: []}
        for number in range(arguments.rounds + 1):
            for classes in found if number % 2 else list(found)[::-1]:
                nets = [f"net:resnet?classes={classes}"] * 2
                _, processor, _ = seconds_for(nets, classes, 1000, arguments.steps or 60, start)
                if number:
                    found[classes].append(processor)
        for classes, times in found.items():
            every = ", ".join(f"{one:.1f}" for one in times)
            print(f"| {start} | {classes} | {statistics.median(times):.1f} | {every} |", flush=True)
        medians = [statistics.median(times) for times in found.values()]
        print(f"| {start} | 43 / 10 | {medians[1] / medians[0]:.2f} | |", flush=True)


def published(
    models: Sequence[Model], images: Tensor, labels: Tensor, classes: int, rounds: int, seed: int
) -> Iterator[tuple[float, Tensor]]:
    """After each round, the passes so far and the patches: (C, 3, H, W) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    mask = Ring().mask(*images.shape[2:])
    count, passes = len(images), 0.0

    def epoch() -> Iterator[Tensor]:
        return iter(torch.randperm(count, generator=generator).split(32))

    def answer(model: Model, patches: Tensor, ground: Tensor, which: Tensor) -> Tensor:
        """Cross-entropy of the images with their patches; colours of patches are in [-1, 1]."""
        worn = ground * (1 - mask) + (patches[which] + 1) / 2 * mask
        return F.cross_entropy(model(worn.clamp(0, 1)), which)

    patches = (torch.randn(classes, 3, *mask.shape, generator=generator) / 100).requires_grad_()
    adam = torch.optim.Adam([patches], 1e-3)
    for _ in range(10):
        for rows in epoch():
            adam.zero_grad()
            answer(models[0], patches, torch.full_like(images[rows], 0.5), labels[rows]).backward()
            adam.step()
            passes += len(rows)
    yield passes, (patches.detach() + 1).div(2).clamp(0, 1)
    for turn in range(rounds):
        copies = []
        for model in models:
            copy = patches.detach().clone().requires_grad_()
            adam = torch.optim.Adam([copy], 0.03)
            for rows in epoch():
                adam.zero_grad()
                answer(model, copy, images[rows], labels[rows]).backward()
                adam.step()
                passes += len(rows)
            copies.append(copy.detach())
        scenes = [(images[rows], labels[rows]) for rows in epoch()]
        near = (torch.stack(copies) + 1) / 2
        patches = 2 * merged_by_gram(near, mask, scenes, third(0.03, turn), (patches.detach() + 1) / 2) - 1
        yield passes, (patches.detach() + 1).div(2).clamp(0, 1)


class Judge:
    """How often models tell the class of images that nobody made patches on, clean and when it is hard to see."""

    def __init__(self, models: Sequence[Model], count: int) -> None:
        self.models, self.batch = models, vallum.load_data(f"builtin:signs?split=test&n={count}").batch(range(count))

    def __call__(self, patches: PatchSet | None) -> tuple[float, float]:
        images, labels, keys = self.batch.images, self.batch.labels, self.batch.keys
        worn = images if patches is None else patches.lay(images, labels)
        told = [self._told(worn), *(self._told(threat(hard)(None, worn, labels, keys)) for hard in HARD)]
        return told[0], statistics.mean(told[1:])

    def _told(self, images: Tensor) -> float:
        with torch.no_grad():
            right = [(model(images).argmax(1) == self.batch.labels).float().mean() for model in self.models]
        return float(torch.stack(right).mean())


def beside_published(arguments: argparse.Namespace) -> None:
    data = vallum.load_data(f"builtin:signs?split=train&n={arguments.images}")
    models = [vallum.load_model(model) for model in arguments.models]
    for model in models:
        model.requires_grad_(False)
    judge, batch = Judge(models, arguments.judged), data.batch(range(len(data)))
    print(f"| patches | passes | clean | mean of {', '.join(HARD)} |\n| --- | --- | --- | --- |")

    def say(what: str, passes: float, patches: PatchSet | None) -> tuple[float, float]:
        found = judge(patches)
        print(f"| {what} | {passes:,.0f} | {found[0]:.4f} | {found[1]:.4f} |", flush=True)
        return found

    say("none", 0, None)
    mask = Ring().mask(*batch.images.shape[2:])
    theirs = []
    for turn, (passes, colours) in enumerate(
        published(models, batch.images, batch.labels, len(data.classes), arguments.rounds, arguments.seed)
    ):
        patches = PatchSet(colours, mask, data.classes, (mask.shape[0], mask.shape[1]))
        if turn in (0, 1, 2, 4, 8, 15, 30) or turn == arguments.rounds:
            found = say(f"published, after {turn} rounds" if turn else "published, prior", passes, patches)
            theirs.append((passes, *found))
    ours = []
    for steps in arguments.steps_each:
        # Images are counted as theirs are: of as many, a quarter is kept for choosing.
        made = vallum.make_patches(
            models, data, images=arguments.images, steps=steps, looks=2, watch=128, quiet=True, seed=arguments.seed
        )
        ours.append((made.made["passes"], *say(f"ensemble, {steps} steps", made.made["passes"], made)))
    for place, what in ((1, "clean"), (2, "hard")):
        best = max(theirs, key=lambda row: row[place])
        least = min((row[0] for row in ours if row[place] >= best[place]), default=None)
        told = f"{what}: {best[place]:.4f} after {best[0]:,.0f} passes; "
        print(told + (f"here after {least:,.0f}: {best[0] / least:.1f} times fewer" if least else "never reached here"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("time", "classes", "published"))
    parser.add_argument("--models", nargs="+", default=["builtin:signs_resnet", "builtin:signs_resnet_robust"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30, help="published ones, or of a comparison")
    parser.add_argument("--steps", type=int, help="of a search; default: its own, or 60 where classes are compared")
    parser.add_argument("--steps-each", type=int, nargs="+", default=[5, 10, 20, 40, 80, 160, 320])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--judged", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(json.dumps(environment()))
    {"time": time_all, "classes": compare_classes, "published": beside_published}[arguments.what](arguments)


if __name__ == "__main__":
    main()
