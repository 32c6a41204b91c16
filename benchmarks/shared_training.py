"""What a weight step of shared training costs, relative to one of plain training.

    python benchmarks/shared_training.py [--net net:resnet] [--batch 128] [--rounds 7]

All recipes take turns on the same images in one process; the median over rounds of processor time is printed, with the
lowest and the highest, as a multiple of plain training's median.
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

RECIPES = (
    "plain",
    "adversarial:steps=4,step_size=4/255",
    "shared_training:sharedness=1",
    "shared_training:sharedness=64",
    "shared_training:sharedness=64,precision=bfloat16",
    "shared_training:sharedness=batch",
    "shared_training:sharedness=64,steps=2,bank=8",
    "shared_training_fast",
    "shared_training_fast:steps=0,sharedness=batch,bank=1",
)


def weight_step(spec: str, net: str, batch: int) -> Callable[[], None]:
    """A function that makes one weight step."""
    data = vallum.load_data("builtin:signs?split=train")
    images = data.batch(range(batch))
    torch.manual_seed(0)
    model = vallum.load_model(net, classes=data.classes).train().to(memory_format=torch.channels_last)
    made = recipe(spec)
    companion = made.companion(model, images.images)
    optimizer = make_optimizer((copy.copy(model), companion), Settings(), torch.device("cpu"))
    count = 0

    def step() -> None:
        nonlocal count
        context = Context(step=count, steps=10**6, total=len(images), companion=companion)
        (ready,) = made.prepare(model, [images], context)
        made.step(model, ready, context)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        count += 1

    return step


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--net", default="net:resnet")
    asked.add_argument("--batch", type=int, default=128)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--steps", type=int, default=4, help="weight steps per recipe and round")
    given = asked.parse_args()
    torch.set_num_threads(1)
    steps = {spec: weight_step(spec, given.net, given.batch) for spec in RECIPES}
    took: dict[str, list[float]] = {spec: [] for spec in RECIPES}
    for round_ in range(-1, given.rounds):
        for spec, step in steps.items():
            began = time.process_time()
            for _ in range(given.steps):
                step()
            if round_ >= 0:
                took[spec].append((time.process_time() - began) / given.steps)
    facts = machine()
    print(
        f"{given.net}, {given.batch} images per step, 1 thread, {facts['processor']}, "
        f"torch {facts['versions']['torch']}"
    )
    plain = statistics.median(took["plain"])
    print(f"{'recipe':<55} {'ms/step':>8} {'x plain':>8} {'lowest':>7} {'highest':>8}")
    for spec, seconds in took.items():
        middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
        print(f"{spec:<55} {middle * 1e3:8.1f} {middle / plain:8.2f} {low / plain:7.2f} {high / plain:8.2f}")


if __name__ == "__main__":
    main()
