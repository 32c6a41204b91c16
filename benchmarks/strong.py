"""Race: the cascade `strong` beside AutoAttack's standard version, on the same model and images, one after the other.

    pip install "vallum[benchmarks]" && pip install --no-deps pyautoattack
    python benchmarks/strong.py --model builtin:signs_resnet_robust --data "builtin:signs?split=test" --eps 4/255

What each leaves standing, what their union leaves, and what only one of them broke; in seconds of the process, so that
what else the machine does hardly counts. AutoAttack takes long: `--keep FILE` keeps what it found and what it cost, and
takes it from there the next time. A pass through the model is timed before and after each side: where what was kept is
used, the ratio is of the costs in units of that pass, since the machine may have become faster or slower in between.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

import vallum
from vallum.images import Batch
from vallum.specs import read_value
from vallum.threats import threat

COLUMNS = ("model", "images", "eps", "clean", "AutoAttack", "strong", "union", "only AutoAttack broke",
           "only strong broke", "seconds theirs", "ours", "theirs / ours")  # fmt: skip


def spread(data: vallum.data.Data, count: int) -> Batch:
    """Images from all over the data, which may be sorted by class."""
    count = min(count, len(data))
    batch = data.batch([place * len(data) // count for place in range(count)])
    batch.images = batch.images.contiguous()  # pyautoattack cannot read other memory layouts
    return batch


def unit(model: nn.Module, batch: Batch) -> float:
    """Seconds of the process for a pass forward and back: the least of five, on up to a hundred images."""
    images, labels, spent = batch.images[:100], batch.labels[:100], []
    for _ in range(5):
        started = time.process_time()
        point = images.clone().requires_grad_()
        torch.autograd.grad(nn.functional.cross_entropy(model(point), labels), point)
        spent.append(time.process_time() - started)
    return min(spent)


def measured(run: Callable[[Tensor, Tensor], Tensor], model: nn.Module, batch: Batch) -> dict[str, Tensor | float]:
    one = unit(model, batch)
    started = time.process_time()
    found = run(batch.images.clone(), batch.labels.clone()).detach()
    seconds = time.process_time() - started
    with torch.no_grad():
        stands = model(found).argmax(1) == batch.labels
    return {"stands": stands, "seconds": seconds, "unit": (one + unit(model, batch)) / 2, "found": found}


def autoattack(model: nn.Module, batch: Batch, eps: float, norm: str, size: int) -> dict[str, Tensor | float]:
    from pyautoattack import AutoAttack

    peer = AutoAttack(model, norm=f"L{norm}", eps=eps, version="standard", device="cpu", seed=0)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        found = peer.run_standard_evaluation(images, labels, batch_size=size)
        return found[0] if isinstance(found, tuple) else found

    return measured(run, model, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", help="of the model in the table")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--norm", default="inf", choices=["inf", "2", "1"])
    parser.add_argument("--options", default="", help="of strong, as precision=bfloat16")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="where what AutoAttack found is kept, and taken from if it is there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = vallum.load_model(given.model).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    batch = spread(vallum.load_data(given.data), given.images)
    eps, size = read_value(given.eps, float, "--eps"), given.batch_size
    cascade = threat(f"strong:eps={eps},norm={given.norm}{',' if given.options else ''}{given.options}")

    def ours(images: Tensor, labels: Tensor) -> Tensor:
        parts = [slice(start, start + size) for start in range(0, len(images), size)]
        return torch.cat([cascade(model, images[p], labels[p], batch.keys[p]) for p in parts])

    mine = measured(ours, model, batch)
    print(f"strong: {float(mine['stands'].double().mean()):.4f} stand, {mine['seconds']:.1f} s", flush=True)  # type: ignore[union-attr]
    asked = f"{given.model} {given.data} {len(batch)} {given.eps} {given.norm}"
    kept = torch.load(given.keep, weights_only=True) if given.keep and given.keep.exists() else None
    if kept is not None and kept["asked"] != asked:
        raise SystemExit(f"{given.keep} is of other arguments: {kept['asked']}")
    theirs = kept or autoattack(model, batch, eps, given.norm, size)
    if given.keep and kept is None:
        torch.save({**theirs, "asked": asked}, given.keep)

    with torch.no_grad():
        clean = model(batch.images).argmax(1) == batch.labels
    a, b = theirs["stands"], mine["stands"]
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    shares = [f"{float(one.double().mean()):.4f}" for one in (clean, a, b, a & b)]
    ratio = theirs["seconds"] / mine["seconds"]
    if kept is not None:
        ratio *= mine["unit"] / theirs["unit"]
    print(f"\ntorch {version('torch')}, {given.threads} thread(s), batches of {size}, seconds of the process")
    print(f"a pass took {1000 * theirs['unit']:.1f} ms beside AutoAttack, {1000 * mine['unit']:.1f} ms beside strong\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    row = [given.name or given.model, str(len(batch)), given.eps, *shares, str(int((b & ~a).sum()))]
    row += [str(int((a & ~b).sum())), f"{theirs['seconds']:.0f}", f"{mine['seconds']:.1f}", f"{ratio:.1f}"]
    print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
