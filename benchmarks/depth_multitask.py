"""What a weight step costs with depth beside segmentation, relative to segmentation alone.

    python benchmarks/depth_multitask.py [--net net:segmenter] [--size 64x192] [--batch 8] [--rounds 9]

All recipes take turns on the same images in one process, in float32 and in bfloat16 (mixed); clips are in memory, half
as many as images. Printed is the median over rounds of the processor time of one thread, and the median, the lowest and
the highest of its ratio to segmentation alone in the same round; and the ratio of the least of both over all rounds, on
which other programs tell least.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch

import vallum
from vallum.defences import Context, recipe
from vallum.machine import machine
from vallum.training.optimize import make_optimizer
from vallum.training.settings import Settings

CLIPS = 24
RECIPES = {
    "segmentation alone": "depth_multitask:clips=0",
    "task=none": "depth_multitask:video={video},task=none",
    "task=picture": "depth_multitask:video={video},task=picture",
    "depth": "depth_multitask:video={video}",
}
PRECISIONS = {"float32": False, "bfloat16": True}


def weight_step(spec: str, net: str, size: str, batch: int, mixed: bool) -> Callable[[], None]:
    """A function that makes one weight step."""
    data = vallum.load_data(f"builtin:streets?split=train&size={size}")
    images = data.batch(range(batch))
    torch.manual_seed(0)
    model = vallum.load_model(net, classes=data.classes).train().to(memory_format=torch.channels_last)
    made = recipe(spec.format(video=f"builtin:streets?n={CLIPS}&size={size}"))
    companion = made.companion(model, images.images)
    optimizer = make_optimizer((copy.copy(model), companion), Settings(), torch.device("cpu"))
    count = 1000  # from where on pixels that move along are left out

    def step() -> None:
        nonlocal count
        context = Context(step=count, steps=10**6, total=len(images), companion=companion)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss = made.step(model, images, context)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        count += 1

    for number in range(CLIPS if "video" in spec else 0):
        companion.feed.source.read(number)
    return step


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--net", default="net:segmenter")
    asked.add_argument("--size", default="64x192")
    asked.add_argument("--batch", type=int, default=8)
    asked.add_argument("--rounds", type=int, default=9)
    asked.add_argument("--steps", type=int, default=2, help="weight steps per recipe and round")
    given = asked.parse_args()
    torch.set_num_threads(1)
    steps = {
        (name, precision): weight_step(spec, given.net, given.size, given.batch, mixed)
        for precision, mixed in PRECISIONS.items()
        for name, spec in RECIPES.items()
    }
    took: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for round_ in range(-1, given.rounds):
        for key, step in steps.items():
            began = time.process_time()
            for _ in range(given.steps):
                step()
            if round_ >= 0:
                took[key].append((time.process_time() - began) / given.steps)
    facts = machine()
    print(
        f"{given.net}, {given.batch} images of {given.size} per step, 1 thread, {facts['processor']}, "
        f"torch {facts['versions']['torch']}"
    )
    heads = f"{'recipe':<20} {'precision':<10} {'ms/step':>8} {'x alone':>8} {'lowest':>7} {'highest':>8}"
    print(f"{heads} {'least':>8} {'x alone':>8}")
    for (name, precision), seconds in took.items():
        alone = took["segmentation alone", precision]
        ratios = [one / other for one, other in zip(seconds, alone, strict=True)]
        print(
            f"{name:<20} {precision:<10} {statistics.median(seconds) * 1e3:8.1f} {statistics.median(ratios):8.2f} "
            f"{min(ratios):7.2f} {max(ratios):8.2f} {min(seconds) * 1e3:8.1f} {min(seconds) / min(alone):8.2f}"
        )


if __name__ == "__main__":
    main()
