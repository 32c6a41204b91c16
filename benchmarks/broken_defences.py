"""Three defences that were believed and fell, rebuilt small: what each kind of attacker leaves of them, and the audit.

    python benchmarks/broken_defences.py --model builtin:signs_resnet --data "builtin:signs?split=test" --images 64

For each: the accuracy that an attacker sees who does not know of the defence, that of each surface on which it
declares to be attacked, the worst of them for each image; then the verdict of the audit on the same thing as a plain
module that declares nothing, on one that declares untruths, and on one that declares what is true.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vallum
from vallum.defences import Defence, draws_for
from vallum.evaluation.summary import UNION
from vallum.models import Model
from vallum.specs import read_value


class Quantisation(Defence):
    """Rounds pixels to six levels, of Guo et al. 2018 (arXiv 1711.00117) and many before."""

    randomised = stateful = exact_gradient = False

    def purify(self, images: Tensor) -> Tensor:
        return (images * 5).round() / 5


class RandomResizing(Defence):
    """Shrinks each image to a size, and pads it in a place, drawn anew at each call, of Xie et al. 2018."""

    randomised, stateful, exact_gradient = True, False, True

    def purify(self, images: Tensor) -> Tensor:
        size = images.shape[-1]
        draws = draws_for(images, "resizing")
        smaller = draws.integers(size // 4 + 1, purpose="smaller").tolist()
        places = draws.uniform(2, purpose="place")
        resized = []
        for image, less, place in zip(images, smaller, places, strict=True):
            left, top = (int(where * (less + 1)) for where in place)
            shrunk = F.interpolate(image[None], (size - less, size - less), mode="bilinear", align_corners=False)
            resized.append(F.pad(shrunk, (left, less - left, top, less - top)))
        return torch.cat(resized)


class StoppedPurifier(Defence):
    """Smooths the images outside of the graph, as purifiers that run under no_grad do."""

    randomised = stateful = exact_gradient = False

    def purify(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return smooth + 0 * images


class Plain(nn.Module):
    """The same without a word about it."""

    def __init__(self, defence: Defence) -> None:
        super().__init__()
        self.defence = defence

    def forward(self, images: Tensor) -> Tensor:
        return self.defence(images)


def lying(kind: type[Defence], model: Model) -> Defence:
    """The same with everything declared that would make it easy to attack."""
    facts = {"randomised": False, "stateful": False, "exact_gradient": True}
    return type(f"Lying{kind.__name__}", (kind,), facts)(model)


def left(kind: type[Defence], model: Model, data: object, threat: str, images: int) -> tuple[dict[str, float], float]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        run = vallum.evaluate({"it": kind(model)}, data, threat, n=images, out=folder, progress=False)
        spent = time.process_time() - started
        found = {}
        for row in run.summary:
            if row["metric"] == "accuracy":
                name = row["surface"] if row["threat"] != "clean" else "clean"
                found[name if row["model"] == "it" else f"bare, {'clean' if name == 'clean' else 'attacked'}"] = row[
                    "value"
                ]
    return found, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="builtin:signs_resnet")
    parser.add_argument("--data", default="builtin:signs?split=test")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", default="4/255")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, data = vallum.load_model(given.model), vallum.load_data(given.data)
    eps = read_value(given.eps, float, "--eps")
    threat = f"pgd:eps={given.eps},steps={given.steps}"
    print(f"{given.images} images, {threat}, accuracy in per cent, CPU seconds on one thread\n")
    for kind in (Quantisation, RandomResizing, StoppedPurifier):
        found, spent = left(kind, model, data, threat, given.images)
        print(f"| {kind.__name__} | |\n| --- | ---: |")
        for name, value in found.items():
            said = {"transfer": "transfer: the ignorant attacker", UNION: "**union**"}.get(name, name)
            print(f"| {said} | {100 * value:.1f} |")
        print(f"| seconds of the evaluation | {spent:.0f} |\n", flush=True)
        print("| audit | verdict | failed | doubtful | seconds |\n| --- | --- | --- | --- | ---: |")
        as_plain = vallum.load_model(Plain(kind(model)).eval(), classes=model.classes)
        for how, one in (("plain", as_plain), ("untrue", lying(kind, model)), ("true", kind(model))):
            started = time.process_time()
            audit = vallum.audit(one, data, eps=eps, steps=given.steps, n=given.images, progress=False)
            spent = time.process_time() - started
            lists = " | ".join(", ".join(audit.named(verdict)) for verdict in ("failed", "doubtful"))
            print(f"| {how} | {audit.verdict} | {lists} | {spent:.0f} |", flush=True)
        print()


if __name__ == "__main__":
    main()
