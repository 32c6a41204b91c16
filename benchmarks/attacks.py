"""Race: vallum's attacks against those of other libraries, in one process, on the same model, images, steps and radius.

    pip install "vallum[benchmarks]"
    pip install --no-deps pyautoattack torchattacks foolbox adv-lib adversarial-robustness-toolbox
    pip install eagerpy gitpython requests scikit-learn six
    python benchmarks/attacks.py --model builtin:signs_resnet --data "builtin:signs?split=test" --images 64

The peers go in without their dependencies: torchattacks pins an old `requests`, adv-lib asks for visdom, which does not
install beside a current setuptools; what ART and foolbox import on the way to an attack is the second line. A peer
that does not import here is named and left out. Rounds of the two sides alternate, and seconds are those of the
process, so that whatever else the machine does meets both; the ratio is the median over rounds of theirs over ours,
with its extremes.

    python benchmarks/attacks.py --strong --model ... --data ... --images 500 --eps 2/255

sets the cascade `strong` beside AutoAttack's standard version: accuracy under each, under their union, and what only
one of them broke.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib.metadata import version

import torch
from torch import Tensor, nn

import vallum
from vallum.images import Batch
from vallum.specs import read_value
from vallum.threats import threat

Run = Callable[[Tensor, Tensor], Tensor]


def bare_pgd(model: nn.Module, eps: float, steps: int) -> Run:
    """The least that projected gradient descent can be: what every other is compared with for its overhead."""

    def run(images: Tensor, labels: Tensor) -> Tensor:
        delta = torch.empty_like(images).uniform_(-eps, eps)
        for _ in range(steps):
            point = (images + delta).clamp(0, 1).requires_grad_()
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(point), labels), point)
            delta = (point.detach() + 2.5 * eps / steps * gradient.sign() - images).clamp(-eps, eps)
        return (images + delta).clamp(0, 1)

    return run


def peers(
    model: nn.Module, shape: tuple[int, ...], classes: int, eps: float, steps: int
) -> Iterator[tuple[str, str, Callable[[], Run]]]:
    """(row, who, how to make it); the making imports the peer, and may fail."""
    step = 2.5 * eps / steps
    yield "pgd", "bare loop", lambda: bare_pgd(model, eps, steps)

    def torchattacks_pgd() -> Run:
        import torchattacks

        return torchattacks.PGD(model, eps=eps, alpha=step, steps=steps)

    def torchattacks_apgd() -> Run:
        import torchattacks

        return torchattacks.APGD(model, eps=eps, steps=steps)

    def foolbox_pgd() -> Run:
        import foolbox

        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
        attack = foolbox.attacks.LinfPGD(steps=steps, abs_stepsize=step)
        return lambda images, labels: attack(wrapped, images, labels, epsilons=eps)[1]

    def advlib(name: str, **options: object) -> Callable[[], Run]:
        def make() -> Run:
            sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # asked for by name alone, in type hints
            sys.modules["visdom"].Visdom = object  # type: ignore[attr-defined]
            import adv_lib.attacks as attacks

            function = getattr(attacks, name)
            return lambda images, labels: function(model, images, labels, **options)

        return make

    def art_pgd() -> Run:
        from art.attacks.evasion import ProjectedGradientDescent
        from art.estimators.classification import PyTorchClassifier

        wrapped = PyTorchClassifier(
            model, nn.CrossEntropyLoss(), input_shape=shape, nb_classes=classes, clip_values=(0, 1), device_type="cpu"
        )
        attack = ProjectedGradientDescent(
            wrapped, eps=eps, eps_step=step, max_iter=steps, num_random_init=1, batch_size=10_000, verbose=False
        )
        return lambda images, labels: torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))

    def pyautoattack_apgd() -> Run:
        from pyautoattack.autopgd_base import APGDAttack

        return APGDAttack(model, n_iter=steps, norm="Linf", eps=eps, loss="ce", device="cpu", seed=0).perturb

    yield "pgd", "torchattacks", torchattacks_pgd
    yield "pgd", "foolbox", foolbox_pgd
    yield "pgd", "art", art_pgd
    yield "apgd", "torchattacks", torchattacks_apgd
    yield "apgd", "pyautoattack", pyautoattack_apgd
    yield "apgd", "adv-lib", advlib("apgd", eps=eps, norm=float("inf"), n_iter=steps, loss_function="ce")
    yield "ddn", "adv-lib", advlib("ddn", steps=steps)
    yield "fmn:norm=inf", "adv-lib", advlib("fmn", norm=float("inf"), steps=steps)
    yield "sigma_zero", "adv-lib", advlib("sigma_zero", num_steps=steps)


def timed(run: Run, batch: Batch) -> tuple[Tensor, float]:
    started = time.process_time()
    found = run(batch.images.clone(), batch.labels.clone())
    return found.detach(), time.process_time() - started


def ours(row: str, model: nn.Module, eps: float, steps: int) -> Run:
    bounded = f",eps={eps}" if row in ("pgd", "apgd") else ""
    whole = ",early_stop=false" if bounded else ""  # the peers' loops run to their end
    attack = threat(f"{row}{',' if ':' in row else ':'}steps={steps}{bounded}{whole}")
    return lambda images, labels: attack(model, images, labels)


def score(model: nn.Module, batch: Batch, found: Tensor, row: str) -> str:
    with torch.no_grad():
        stands = model(found).argmax(1) == batch.labels
    moved = (found - batch.images).flatten(1)
    if row in ("pgd", "apgd"):
        return f"{float(stands.double().mean()):.3f} stand"
    length = {"ddn": moved.norm(dim=1), "fmn:norm=inf": moved.abs().amax(1), "sigma_zero": (moved != 0).sum(1)}[row]
    if bool(stands.all()):
        return "none fell"
    return f"{float((~stands).double().mean()):.3f} fell, median {float(length[~stands].double().median()):.4g}"


def race(model: nn.Module, batch: Batch, eps: float, steps: int, rounds: int) -> None:
    print(f"| attack | peer | theirs | ours | seconds theirs | ours | theirs / ours |\n|{' --- |' * 7}")
    with torch.no_grad():
        classes = model(batch.images[:1]).shape[1]
    for row, who, make in peers(model, tuple(batch.images.shape[1:]), classes, eps, steps):
        try:
            other, own = make(), ours(row, model, eps, steps)
            pairs = [(timed(other, batch), timed(own, batch)) for _ in range(rounds)]
        except Exception as error:
            print(f"| {row} | {who} | does not run here: {type(error).__name__}: {str(error)[:80]} | | | | |")
            continue
        (found, _), (mine, _) = pairs[0]
        seconds = [statistics.median(pair[side][1] for pair in pairs) for side in (0, 1)]
        ratios = sorted(a[1] / b[1] for a, b in pairs)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        scores = [score(model, batch, one, row) for one in (found, mine)]
        print(
            f"| {row} | {who} | {scores[0]} | {scores[1]} | {seconds[0]:.2f} | {seconds[1]:.2f} | {spread} |",
            flush=True,
        )


def beside_autoattack(model: nn.Module, batch: Batch, eps: float, batch_size: int) -> None:
    from pyautoattack import AutoAttack

    peer = AutoAttack(model, norm="Linf", eps=eps, version="standard", device="cpu", seed=0)
    cascade = threat(f"strong:eps={eps}")

    def theirs(images: Tensor, labels: Tensor) -> Tensor:
        found = peer.run_standard_evaluation(images, labels, batch_size=batch_size)
        return found[0] if isinstance(found, tuple) else found

    def mine(images: Tensor, labels: Tensor) -> Tensor:
        places = range(0, len(images), batch_size)
        parts = [slice(start, start + batch_size) for start in places]
        keys = torch.arange(len(images))
        return torch.cat([cascade(model, images[p], labels[p], keys[p]) for p in parts])

    stands, seconds = [], []
    for run in (theirs, mine):
        found, spent = timed(run, batch)
        with torch.no_grad():
            stands.append(model(found).argmax(1) == batch.labels)
        seconds.append(spent)
    a, b = stands
    share = [f"{float(one.double().mean()):.4f}" for one in (a, b, a & b)]
    print("| images | AutoAttack | strong | union | only AutoAttack broke | only strong broke | seconds | ratio |")
    print(f"|{' --- |' * 8}")
    only = f"{int((b & ~a).sum())} | {int((a & ~b).sum())}"
    times = f"{seconds[0]:.1f} / {seconds[1]:.1f} | {seconds[0] / seconds[1]:.1f}"
    print(f"| {len(a)} | {' | '.join(share)} | {only} | {times} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--strong", action="store_true", help="strong beside AutoAttack's standard version")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = vallum.load_model(given.model).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    batch = vallum.load_data(given.data).batch(range(given.images))
    batch.images = batch.images.contiguous()  # pyautoattack cannot read other memory layouts
    eps = read_value(given.eps, float, "--eps")
    print(f"torch {version('torch')}, {given.threads} thread(s), {given.images} images, eps {given.eps}, CPU seconds\n")
    if given.strong:
        beside_autoattack(model, batch, eps, given.batch_size)
    else:
        race(model, batch, eps, given.steps, given.rounds)


if __name__ == "__main__":
    main()
