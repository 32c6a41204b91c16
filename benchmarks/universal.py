"""Race: the universal attack against ART's and a plain loop, on the same images to fit on and the same to test on.

    pip install --no-deps adversarial-robustness-toolbox && pip install scikit-learn six
    python benchmarks/universal.py --model builtin:signs_resnet --data builtin:signs?split=val --eps 16/255

Printed for each: the accuracy left on images that none was fitted on, image passes forwards and backwards while
fitting, and processor seconds. torchattacks and foolbox have no universal attack (torchattacks' UPGD is another thing)
and are left out for that. A peer that does not import is named and left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

import vallum
from vallum.evaluation.passes import Counted
from vallum.images import Batch
from vallum.machine import machine
from vallum.models.model import Model
from vallum.specs import read_value
from vallum.threats import threat

Fit = Callable[[Counted, Batch], Tensor]  # the perturbation, (C, H, W)


def ours(spec: str) -> Fit:
    def fit(model: Counted, batch: Batch) -> Tensor:
        attack = threat(spec).fit(model, (batch.images, batch.labels))  # type: ignore[attr-defined]
        return attack.found.deltas[0]

    return fit


def plain_loop(eps: float, epochs: int, seed: int = 0) -> Fit:
    """Stochastic gradient ascent as it is often written: constant steps of 0.8 eps, from nothing, the last point."""

    def fit(model: Counted, batch: Batch) -> Tensor:
        delta = torch.zeros_like(batch.images[:1])
        order = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            for part in torch.randperm(len(batch), generator=order).split(64):
                leaf = delta.clone().requires_grad_()
                logits = model((batch.images[part] + leaf).clamp(0, 1))
                loss = (
                    torch.nn.functional.cross_entropy(logits, batch.labels[part], reduction="none").clamp_max(10).sum()
                )
                (slope,) = torch.autograd.grad(loss, leaf)
                delta = (delta + 0.8 * eps * slope.sign()).clamp(-eps, eps)
        return delta[0]

    return fit


def art(eps: float, attacker: str, rounds: int) -> Fit:
    from art.attacks.evasion import UniversalPerturbation
    from art.estimators.classification import PyTorchClassifier

    def fit(model: Counted, batch: Batch) -> Tensor:
        shape, classes = tuple(batch.images.shape[1:]), len(model.classes or ())
        wrapped = PyTorchClassifier(model, torch.nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0))
        inner = {"eps": eps, "max_iter": 10} if attacker == "pgd" else {"eps": eps} if attacker == "fgsm" else {}
        if attacker == "pgd":
            inner |= {"eps_step": eps / 4, "verbose": False}
        attack = UniversalPerturbation(
            wrapped, attacker, inner, delta=0.01, max_iter=rounds, eps=eps, norm=np.inf, batch_size=64, verbose=False
        )
        attack.generate(batch.images.numpy(), batch.labels.numpy())
        return torch.as_tensor(attack.noise).reshape(shape).float()

    return fit


def sides(eps: float, seed: int) -> Iterator[tuple[str, Callable[[], Fit]]]:
    for form in ("chessboard", "low_frequency"):
        yield f"pattern {form}", lambda form=form: pattern(form, eps)
    for steps in (16, 24, 96):
        spec = f"universal:eps={eps!r},steps={steps},targets=1,seed={seed}"
        yield f"vallum universal:steps={steps}", lambda spec=spec: ours(spec)
    yield "vallum universal_deepfool, 1 round", lambda: ours(f"universal_deepfool:eps={eps!r},rounds=1,seed={seed}")
    for epochs in (10, 24, 48):
        yield f"plain loop, {epochs} epochs", lambda epochs=epochs: plain_loop(eps, epochs, seed)
    yield "ART, fgsm, 3 rounds", lambda: art(eps, "fgsm", 3)
    yield "ART, pgd, 1 round", lambda: art(eps, "pgd", 1)
    yield "ART, deepfool, 1 round", lambda: art(eps, "deepfool", 1)


def pattern(form: str, eps: float) -> Fit:
    def fit(model: Counted, batch: Batch) -> Tensor:
        grey = torch.full_like(batch.images[:1], 0.5)
        return (threat(f"pattern:eps={eps!r},form={form}")(model, grey, batch.labels[:1]) - grey)[0]

    return fit


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--model", default="builtin:signs_resnet")
    asked.add_argument("--data", default="builtin:signs?split=val")
    asked.add_argument("--fit", type=int, default=256, help="images to fit on")
    asked.add_argument("--test", type=int, default=500)
    asked.add_argument("--eps", default="16/255")
    asked.add_argument("--seeds", type=int, default=1, help="searches of each, whose means are printed")
    asked.add_argument("--without", default="", help="leave out whose names hold these, as ART,deepfool")
    given = asked.parse_args()
    torch.set_num_threads(1)
    eps = read_value(given.eps, float, "--eps")
    model: Model = vallum.load_model(given.model)
    data = vallum.load_data(given.data)
    fitted, tested = data.batch(range(given.fit)), data.batch(range(given.fit, given.fit + given.test))
    facts = machine()
    print(
        f"{given.model}, {given.data}, eps {given.eps}, fitted on {given.fit}, tested on {given.test}; 1 thread, "
        f"{facts['processor']}, torch {facts['versions']['torch']}"
    )
    print(f"{'attack':<36} {'accuracy':>8} {'forwards':>9} {'backwards':>9} {'seconds':>8}")
    with torch.no_grad():
        clean = float((model(tested.images).argmax(1) == tested.labels).float().mean())
    print(f"{'none':<36} {clean:8.1%}")
    left_out = [part for part in given.without.split(",") if part]
    for row in zip(*(list(sides(eps, seed)) for seed in range(given.seeds)), strict=True):
        name = row[0][0]
        if any(part in name for part in left_out):
            continue
        counted, left, took = Counted(model), [], 0.0
        try:
            fits = [make() for _, make in row]
        except ImportError as problem:
            print(f"{name:<36} left out: {problem}")
            continue
        for fit in fits:
            began = time.process_time()
            delta = fit(counted, fitted).clamp(-eps, eps)
            took += time.process_time() - began
            with torch.no_grad():
                answers = model((tested.images + delta).clamp(0, 1)).argmax(1)
            left.append(float((answers == tested.labels).float().mean()))
        n = len(left)
        spread = f" ({min(left):.1%} to {max(left):.1%})" if n > 1 else ""
        mean = sum(left) / n
        print(
            f"{name:<36} {mean:8.1%} {counted.forwards // n:9d} {counted.backwards // n:9d} {took / n:8.1f}{spread}",
            flush=True,
        )


if __name__ == "__main__":
    main()
