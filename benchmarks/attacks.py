"""Race: vallum's attacks against those of other libraries, in one process, on the same model, images, steps and radius.

    pip install "vallum[benchmarks]"
    pip install --no-deps pyautoattack torchattacks foolbox adv-lib adversarial-robustness-toolbox
    pip install eagerpy gitpython requests scikit-learn six
    python benchmarks/attacks.py --on "resnet, plain|builtin:signs_resnet|builtin:signs?split=test|8/255|32"

The peers go in without their dependencies: torchattacks pins an old `requests`, adv-lib asks for visdom, which does not
install beside a current setuptools; what ART and foolbox import on the way to an attack is the second line. A peer
that does not import here is named and left out.

`--on "NAME|MODEL|DATA|EPS|IMAGES"` may be given several times. The images are those that the model gets right. Radii of
the norms 2 and 1 follow from the one given: a quarter of the root of the number of values times it, an eighth of that
number times it. A sixth field, `own`, takes what the model says for the labels: for a net that nobody trained. Both
sides take the same steps: vallum's attacks run to their end here, though they would let an image go once it has fallen;
what that saves is the last column. Rounds of the two sides alternate, after one that warms up and
counts: passes forward and back, and the most memory that tensors held at once, as a ratio. Seconds are those of the
process, so that whatever else the machine does meets both; the ratio is the median over rounds of theirs over ours,
with its extremes, and beside it the ratio of each side's
least seconds, which neighbours on the machine disturb less: above 1 vallum is the faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from importlib.metadata import version
from typing import Any

import torch
from peers import Course, Run, rows
from torch import Tensor, nn

import vallum
from vallum.images import Batch
from vallum.specs import read_value
from vallum.threats import threat

COLUMNS = ("on", "attack", "peer", "theirs", "ours", "passes theirs", "ours", "seconds theirs", "ours",
           "theirs / ours", "of the least", "memory ours / theirs", "theirs / ours as it comes")  # fmt: skip


class Counted(nn.Module):
    """A model that counts how many images pass it, forward and back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.forwards, self.backwards = model, 0, 0
        self.eval()  # peers put back the mode that they find

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += len(images)
        logits = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def timed(run: Run, batch: Batch) -> float:
    images, labels = batch.images.clone(), batch.labels.clone()
    started = time.process_time()
    run(images, labels)
    return time.process_time() - started


def looked_at(run: Run, batch: Batch, model: Counted) -> tuple[Tensor, str, int]:
    """What it found, its passes per image, and the most bytes of tensors at any moment."""
    model.forwards = model.backwards = 0
    images, labels = batch.images.clone(), batch.labels.clone()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        found = run(images, labels).detach()
    passes = f"{model.forwards / len(batch):g} + {model.backwards / len(batch):g}"
    held = most = 0
    results: Any = profile.profiler.kineto_results  # type: ignore[union-attr]
    for event in sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return found, passes, most


def mine(row: str, on: Course, whole: bool) -> Run:
    name, _, norm = row.partition(":norm=")
    options = {"square": {"queries": 10 * on.steps}}.get(name, {"steps": on.steps})
    options |= {"norm": norm} if norm else {}
    options |= {"eps": on.eps[norm]} if name in ("pgd", "apgd", "square") else {}
    options |= {"early_stop": "false"} if whole and name in ("pgd", "apgd") else {}
    attack = threat(f"{name}:{','.join(f'{key}={value}' for key, value in options.items())}")
    return lambda images, labels: attack(on.model, images, labels)


def score(on: Course, batch: Batch, found: Tensor, row: str) -> str:
    with torch.no_grad():
        stands = on.model(found).argmax(1) == batch.labels
    name, _, norm = row.partition(":norm=")
    if name in ("pgd", "apgd", "square"):
        return f"{float(stands.double().mean()):.3f} stand"
    moved = (found - batch.images).flatten(1)
    norm = {"ddn": "2", "sigma_zero": "0"}.get(name, norm)
    length = (moved != 0).sum(1) if norm == "0" else moved.norm(float(norm), dim=1)
    length = length.double().masked_fill(stands, torch.inf)
    return f"median {float(length.median()):.3g}"


def race(name: str, model: nn.Module, batch: Batch, eps: float, given: argparse.Namespace) -> None:
    counted, values = Counted(model), batch.images[0].numel()
    with torch.no_grad():
        classes = model(batch.images[:1]).shape[1]
    radii = {"inf": eps, "2": eps * values**0.5 / 4, "1": eps * values / 8}
    on = Course(counted, tuple(batch.images.shape[1:]), classes, radii, given.steps)
    for row, who, make in rows(on):
        if given.attacks and row.split(":")[0] not in given.attacks.split(","):
            continue
        try:
            theirs, ours = make(), mine(row, on, whole=True)
            (found, passes, held), (own, own_passes, own_held) = (
                looked_at(run, batch, counted) for run in (theirs, ours)
            )
            pairs = [(timed(theirs, batch), timed(ours, batch)) for _ in range(given.rounds)]
            early = timed(mine(row, on, whole=False), batch)
        except Exception as error:
            text = f"does not run here: {type(error).__name__}: {str(error)[:80]}".replace("\n", " ")
            print(f"| {name} | {row} | {who} | {text} |{' |' * 9}", flush=True)
            continue
        seconds = [statistics.median(pair[side] for pair in pairs) for side in (0, 1)]
        ratios = sorted(a / b for a, b in pairs)
        cells = [name, row, who, score(on, batch, found, row), score(on, batch, own, row), passes, own_passes]
        cells += [f"{one:.2f}" for one in seconds]
        cells += [f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
        cells += [f"{min(a for a, _ in pairs) / min(b for _, b in pairs):.2f}"]
        cells += [f"{own_held / max(held, 1):.2f}", f"{seconds[0] / early:.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def right(model: nn.Module, data: vallum.data.Data, count: int, own_labels: bool) -> Batch:
    """Images from all over the data that the model gets right, or whose labels are what the model says."""
    wanted = min(len(data), 3 * count)
    batch = data.batch([place * len(data) // wanted for place in range(wanted)])
    with torch.no_grad():
        answers = torch.cat([model(part) for part in batch.images.split(32)]).argmax(1)
    labels = answers if own_labels else batch.labels
    these = (answers == labels).nonzero()[:count, 0]
    names = [batch.names[place] for place in these]
    return Batch(batch.images[these].contiguous(), labels[these], batch.keys[these], names)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--on", action="append", required=True, help="NAME|MODEL|DATA|EPS|IMAGES[|own]")
    parser.add_argument("--attacks", default="", help="only these, as pgd,fmn")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"torch {version('torch')}, {given.threads} thread(s), {given.steps} steps, {given.rounds} rounds\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for text in given.on:
        name, source, data, eps, count, *own = text.split("|")
        model = vallum.load_model(source).eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        batch = right(model, vallum.load_data(data), int(count), own == ["own"])
        race(f"{name}, {len(batch)}", model, batch, read_value(eps, float, "--on"), given)


if __name__ == "__main__":
    main()
