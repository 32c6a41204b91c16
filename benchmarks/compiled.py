"""What torch.compile buys an attack: seconds until the first slope is there, seconds of a pass, passes until it pays.

    python benchmarks/compiled.py --on "resnet, robust|builtin:signs_resnet_robust|builtin:signs?split=test|64"

A pass is one forward and one backward to the images, as an attack takes many of. The network is what an attack searches
on: with batch norm folded into its convolutions. A batch that shrinks, as images fall, is a new shape: the last column
is what the first pass of half as many images costs. Passes with and without alternate; medians, seconds of the process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
import torch._inductor.config
from torch import Tensor

import vallum
from vallum.threats.fast import folded
from vallum.threats.losses import cross_entropy

COLUMNS = ("on", "shapes", "first pass", "pass eager", "compiled", "eager / compiled", "passes until it pays",
           "first pass of half the images")  # fmt: skip


def seconds(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    started = time.process_time()
    point = images.clone().requires_grad_()
    torch.autograd.grad(cross_entropy(model(point), labels).sum(), point)
    return time.process_time() - started


def waited(model: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Seconds on the clock: what compiles works in processes of its own."""
    started = time.perf_counter()
    seconds(model, images, labels)
    return time.perf_counter() - started


def measured(name: str, model: torch.nn.Module, images: Tensor, labels: Tensor, rounds: int) -> None:
    search = folded(model, images)
    for shapes, dynamic in (("each its own", False), ("any", True)):
        torch.compiler.reset()
        compiled = torch.compile(search, dynamic=dynamic)
        first = waited(compiled, images, labels)
        pairs = [(seconds(search, images, labels), seconds(compiled, images, labels)) for _ in range(rounds)]
        eager, quick = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        half = waited(compiled, images[: len(images) // 2], labels[: len(images) // 2])
        pays = f"{first / (eager - quick):,.0f}" if quick < eager else "never"
        cells = [
            name,
            shapes,
            f"{first:.1f}",
            f"{eager:.4f}",
            f"{quick:.4f}",
            f"{eager / quick:.2f}",
            pays,
            f"{half:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--on", action="append", required=True, help="NAME|MODEL|DATA|IMAGES")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch._inductor.config.force_disable_caches = True  # else what an earlier run compiled is found on the disk
    print(f"torch {version('torch')}, {given.threads} thread(s), {given.rounds} rounds\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for text in given.on:
        name, source, data, count = text.split("|")
        batch = vallum.load_data(data).batch(range(int(count)))
        model = vallum.load_model(source).eval().requires_grad_(False)
        measured(f"{name}, {count}", model, batch.images, batch.labels, given.rounds)


if __name__ == "__main__":
    main()
