"""Race: `strong` on a segmenter beside SEA as published, same model, images and radius, one after the other.

    python benchmarks/segmentation.py --model "python:benchmarks/nets.py:espnet_camvid?weights=PATH" \
        --data "camvid:PATH?split=test" --images 16 --eps 1/255

SEA, Croce et al. 2024 (arXiv 2306.12941), written down here from the paper: masked, class-balanced masked cross-entropy
and Jensen-Shannon, three hundred steps of APGD each in balls of 2, 1.5 and 1 times the radius, the step of lowest
pixel accuracy kept per image; then the lowest accuracy per image, and, for the mIoU of the set, which of the three
each image shows, by greedy search. `strong` is asked for the lowest accuracy, for the lowest mIoU of each image, and,
told how common the classes are, which SEA weighs by, for the lowest of the set.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vallum
from vallum.images import IGNORE, Batch
from vallum.specs import read_value
from vallum.threats import threat
from vallum.threats.strong_segmentation import shares_of

PixelLoss = Callable[[Tensor, Tensor], Tensor]  # (logits, labels) -> (N, H, W)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORE)


def masked(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels) * (logits.argmax(1) == labels)


def balanced(frequency: Tensor) -> PixelLoss:
    weight = torch.cat([1 / frequency.clamp_min(1), torch.zeros(IGNORE + 1 - len(frequency))])
    return lambda logits, labels: masked(logits, labels) * weight[labels] * frequency.sum()


def jensen_shannon(logits: Tensor, labels: Tensor) -> Tensor:
    log_p = logits.log_softmax(1)
    p, truth = log_p.exp(), F.one_hot(labels.where(labels != IGNORE, 0), logits.shape[1]).movedim(-1, 1).to(logits)
    log_m = ((p + truth) / 2).clamp_min(1e-30).log()
    return ((p * (log_p - log_m)).sum(1) - (truth * log_m).sum(1)) / 2 * (labels != IGNORE)


def apgd(model: nn.Module, batch: Batch, eps: float, loss: PixelLoss, steps: int, seed: int) -> Tensor:
    """The images of lowest pixel accuracy that the climb through the three balls passed."""
    clean, labels = batch.images, batch.labels
    found, lowest = clean.clone(), torch.full((len(clean),), torch.inf)
    start = clean + (torch.rand(clean.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * 2 * eps
    for radius, count in ((2 * eps, 3 * steps // 10), (1.5 * eps, 3 * steps // 10), (eps, steps - 6 * steps // 10)):
        inside = (clean - radius).clamp(0, 1), (clean + radius).clamp(0, 1)
        x = start.clamp(*inside)
        before, top, top_gradient = x, x, torch.zeros_like(x)
        top_value = checked = torch.full((len(x),), -torch.inf)
        value, rises, slowed = top_value, torch.zeros(len(x)), torch.ones(len(x), dtype=torch.bool)
        step = torch.full((len(x), 1, 1, 1), 2 * radius)
        period, since = max(int(0.22 * count), 1), 0
        for i in range(count + 1):
            point = x.clone().requires_grad_()
            logits = model(point)
            (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), point)
            with torch.no_grad():
                tracked = cross_entropy(logits, labels).flatten(1).mean(1)
                if radius == eps:
                    accuracy = accuracies(logits, labels)
                    lower = accuracy < lowest
                    found[lower], lowest = x[lower], torch.minimum(accuracy, lowest)
                rises, value, better = rises + (tracked > value), tracked, tracked > top_value
                wide = better.view(-1, 1, 1, 1)
                top, top_gradient = torch.where(wide, x, top), torch.where(wide, gradient, top_gradient)
                top_value = torch.where(better, tracked, top_value)
                if i == count:
                    break
                if since == period:
                    few, stuck = rises <= 0.75 * period, (top_value <= checked) & ~slowed
                    slowed, checked, rises, since = few | stuck, top_value, torch.zeros_like(rises), 0
                    wide = slowed.view(-1, 1, 1, 1)
                    step, x = torch.where(wide, step / 2, step), torch.where(wide, top, x)
                    gradient = torch.where(wide, top_gradient, gradient)
                    period = max(period - max(int(0.03 * count), 1), max(int(0.06 * count), 1))
                ahead = (x + step * gradient.sign()).clamp(*inside)
                if i:
                    ahead = (x + 0.75 * (ahead - x) + 0.25 * (x - before)).clamp(*inside)
                before, x, since = x, ahead, since + 1
        start = top
    return found


def accuracies(logits: Tensor, labels: Tensor) -> Tensor:
    valid = labels != IGNORE
    right = ((logits.argmax(1) == labels) & valid).flatten(1).sum(1)
    return right / valid.flatten(1).sum(1).clamp_min(1)


def confusion(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """(N, K, K), rows the truth; a prediction of a class that no label has counts as wrong."""
    with torch.no_grad():
        logits = torch.cat([model(one[None]) for one in images])
    classes, valid = logits.shape[1], labels != IGNORE
    pairs = (labels.where(valid, 0) * classes + logits.argmax(1)).flatten(1)
    return (
        torch.zeros(len(images), classes**2).scatter_add_(1, pairs, valid.flatten(1).float()).view(-1, classes, classes)
    )


def accuracy(tables: Tensor) -> Tensor:
    return tables.diagonal(dim1=-2, dim2=-1).sum(-1) / tables.sum((-1, -2))


def miou(table: Tensor) -> float:
    hit = table.diagonal()
    either = table.sum(0) + table.sum(1) - hit
    return float((hit / either.clamp_min(1))[table.sum(1) > 0].mean())


def worst_miou(tables: list[Tensor]) -> float:
    """The lowest mIoU of the set when each image may show any of its tables, by greedy search."""
    stack = torch.stack(tables, 1)  # (N, attacks, K, K)
    chosen = torch.full((len(stack),), min(range(len(tables)), key=lambda a: miou(tables[a].sum(0))))
    total = stack[torch.arange(len(stack)), chosen].sum(0)
    changed = True
    while changed:
        changed = False
        for image in range(len(stack)):
            rest = total - stack[image, chosen[image]]
            best = min(range(len(tables)), key=lambda a: miou(rest + stack[image, a]))
            if miou(rest + stack[image, best]) < miou(total) - 1e-9:
                chosen[image], total, changed = best, rest + stack[image, best], True
    return miou(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", default="", help="HEIGHTxWIDTH of the middle that is cut out; else the whole picture")
    parser.add_argument("--eps", default="1/255")
    parser.add_argument("--steps", type=int, default=300, help="of each of SEA's three climbs")
    parser.add_argument("--lowest", default="accuracy,miou,set", help="what strong is asked for")
    parser.add_argument("--without-sea", action="store_true", help="where a table of an earlier run is to be had")
    parser.add_argument("--options", default="", help="of strong, as exhaustive=true")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = vallum.load_model(given.model, task="segment").eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    data, eps = vallum.load_data(given.data), read_value(given.eps, float, "--eps")
    batch = data.batch([place * len(data) // given.images for place in range(given.images)])
    if given.size:
        height, width = (int(side) for side in given.size.split("x"))
        top, left = (batch.images.shape[2] - height) // 2, (batch.images.shape[3] - width) // 2
        batch.images = batch.images[:, :, top : top + height, left : left + width].contiguous()
        batch.labels = batch.labels[:, top : top + height, left : left + width].contiguous()
    starts = range(0, len(batch), given.batch_size)
    parts = [
        Batch(batch.images[p], batch.labels[p], batch.keys[p], batch.names[p])
        for p in (slice(start, start + given.batch_size) for start in starts)
    ]
    frequency = torch.bincount(batch.labels[batch.labels != IGNORE], minlength=model(batch.images[:1]).shape[1]).float()
    asked = {"accuracy": "lowest=accuracy", "miou": "lowest=miou"}
    asked["set"] = f"lowest=miou,shares={shares_of(batch.labels, len(frequency))}"
    cascades = {
        f"strong, lowest {lowest}": threat(f"strong:eps={eps},{','.join(filter(None, (asked[lowest], given.options)))}")
        for lowest in filter(None, given.lowest.split(","))
    }
    losses: dict[str, PixelLoss] = {"masked": masked, "balanced": balanced(frequency), "Jensen-Shannon": jensen_shannon}

    tables, seconds = {"clean": confusion(model, batch.images, batch.labels)}, {"clean": 0.0}

    def run(name: str, attack: Callable[[Batch], Tensor]) -> None:
        started = time.process_time()
        found = torch.cat([attack(part) for part in parts])
        seconds[name] = time.process_time() - started
        assert float((found - batch.images).abs().max()) <= eps + 1e-6
        tables[name] = confusion(model, found, batch.labels)
        print(f"{name}: {seconds[name]:.1f} s", flush=True)

    for name, one in cascades.items():
        run(name, lambda part, one=one: one(model, part.images, part.labels, part.keys))  # type: ignore[misc]
    if given.without_sea:
        losses = {}
    for place, (name, loss) in enumerate(losses.items()):
        run(name, lambda part, loss=loss, seed=place: apgd(model, part, eps, loss, given.steps, seed))  # type: ignore[misc]
    of_sea = [tables[name] for name in losses]
    of_strong = [table for name, table in tables.items() if name.startswith("strong")]
    rows = {name: [table] for name, table in tables.items()} | {
        "SEA, the three": of_sea,
        "strong, all": of_strong,
        "union of SEA and strong": [*of_sea, *of_strong],
    }
    rows = {name: those for name, those in rows.items() if those}
    seconds["strong, all"] = sum(spent for name, spent in seconds.items() if name.startswith("strong"))
    seconds["SEA, the three"] = sum(seconds[name] for name in losses)
    size = "x".join(str(side) for side in batch.images.shape[2:])
    print(f"\ntorch {version('torch')}, {given.threads} thread(s), {len(batch)} images of {size}, eps {given.eps}")
    print(f"SEA with {given.steps} steps a loss, strong with {given.options or 'defaults'}; CPU seconds\n")
    print(f"| attack | pixel accuracy | mIoU | seconds |\n|{' --- |' * 4}")
    for name, those in rows.items():
        worst = torch.stack([accuracy(table) for table in those]).amin(0).mean()
        print(f"| {name} | {float(worst):.4f} | {worst_miou(those):.4f} | {seconds.get(name, 0):.1f} |")


if __name__ == "__main__":
    main()
