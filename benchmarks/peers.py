"""The attacks of other libraries, each made to look the same: (images, labels) -> images. Making one may fail."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Run = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Course:
    """What both sides run on."""

    model: nn.Module
    shape: tuple[int, ...]  # (C, H, W)
    classes: int
    eps: dict[str, float]  # by norm
    steps: int

    def step_size(self, norm: str) -> float:
        return 2.5 * self.eps[norm] / self.steps


def bare_loop(on: Course, norm: str) -> Run:
    """The least that projected gradient descent can be: what every other is compared with for its overhead."""
    eps, step = on.eps[norm], on.step_size(norm)

    def length(x: Tensor) -> Tensor:
        return x.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        delta = torch.empty_like(images).uniform_(-eps, eps)
        if norm == "2":
            delta = torch.randn_like(images)
            delta *= eps * torch.rand(len(images), 1, 1, 1) / length(delta)
        for _ in range(on.steps):
            point = (images + delta).clamp(0, 1).requires_grad_()
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(on.model(point), labels), point)
            if norm == "inf":
                delta = (point.detach() + step * gradient.sign() - images).clamp(-eps, eps)
            else:
                delta = point.detach() + step * gradient / length(gradient) - images
                delta = delta * (eps / length(delta)).clamp_max(1)
        return (images + delta).clamp(0, 1)

    return run


def torchattacks(on: Course, name: str, norm: str, **options: object) -> Run:
    import torchattacks

    return getattr(torchattacks, name)(on.model, eps=on.eps[norm], steps=on.steps, **options)


def foolbox(on: Course, name: str, norm: str) -> Run:
    import foolbox

    wrapped = foolbox.PyTorchModel(on.model, bounds=(0, 1))
    attack = getattr(foolbox.attacks, name)(steps=on.steps, abs_stepsize=on.step_size(norm))
    return lambda images, labels: attack(wrapped, images, labels, epsilons=on.eps[norm])[1]


def adv_lib(on: Course, name: str, **options: object) -> Run:
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # asked for by name alone, in type hints
    sys.modules["visdom"].Visdom = object  # type: ignore[attr-defined]
    import adv_lib.attacks as attacks

    return lambda images, labels: getattr(attacks, name)(on.model, images, labels, **options)


def adv_lib_apgd(on: Course, norm: str) -> Run:
    loss = {"loss_function": "ce", "use_large_reps": norm == "1"}
    return adv_lib(on, "apgd", eps=on.eps[norm], norm=float(norm), n_iter=on.steps, **loss)


def art(on: Course, norm: str) -> Run:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        on.model, nn.CrossEntropyLoss(), input_shape=on.shape, nb_classes=on.classes, clip_values=(0, 1),
        device_type="cpu",
    )  # fmt: skip
    attack = ProjectedGradientDescent(
        wrapped, norm=float(norm), eps=on.eps[norm], eps_step=on.step_size(norm), max_iter=on.steps,
        num_random_init=1, batch_size=10_000, verbose=False,
    )  # fmt: skip
    return lambda images, labels: torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def pyautoattack_apgd(on: Course, norm: str) -> Run:
    from pyautoattack.autopgd_base import APGDAttack

    large = norm == "1"
    return APGDAttack(
        on.model, n_iter=on.steps, norm=f"L{norm}", eps=on.eps[norm], loss="ce", device="cpu", seed=0,
        use_largereps=large,
    ).perturb  # fmt: skip


def pyautoattack_square(on: Course, norm: str) -> Run:
    from pyautoattack.square import SquareAttack

    return SquareAttack(
        on.model, n_queries=10 * on.steps, norm=f"L{norm}", eps=on.eps[norm], device="cpu", seed=0
    ).perturb


def rows(on: Course) -> list[tuple[str, str, Callable[[], Run]]]:
    """(our attack, who else, how to make theirs)."""
    inf, two, one = "pgd:norm=inf", "pgd:norm=2", "apgd:norm=1"
    return [
        (inf, "bare loop", lambda: bare_loop(on, "inf")),
        (inf, "torchattacks", lambda: torchattacks(on, "PGD", "inf", alpha=on.step_size("inf"))),
        (inf, "foolbox", lambda: foolbox(on, "LinfPGD", "inf")),
        (inf, "art", lambda: art(on, "inf")),
        (two, "bare loop", lambda: bare_loop(on, "2")),
        (two, "torchattacks", lambda: torchattacks(on, "PGDL2", "2", alpha=on.step_size("2"))),
        (two, "foolbox", lambda: foolbox(on, "L2PGD", "2")),
        ("apgd:norm=inf", "torchattacks", lambda: torchattacks(on, "APGD", "inf")),
        ("apgd:norm=inf", "pyautoattack", lambda: pyautoattack_apgd(on, "inf")),
        ("apgd:norm=inf", "adv-lib", lambda: adv_lib_apgd(on, "inf")),
        ("apgd:norm=2", "pyautoattack", lambda: pyautoattack_apgd(on, "2")),
        ("apgd:norm=2", "adv-lib", lambda: adv_lib_apgd(on, "2")),
        (one, "pyautoattack", lambda: pyautoattack_apgd(on, "1")),
        (one, "adv-lib", lambda: adv_lib_apgd(on, "1")),
        ("ddn", "adv-lib", lambda: adv_lib(on, "ddn", steps=on.steps)),
        ("fmn:norm=inf", "adv-lib", lambda: adv_lib(on, "fmn", norm=float("inf"), steps=on.steps)),
        ("fmn:norm=2", "adv-lib", lambda: adv_lib(on, "fmn", norm=2, steps=on.steps)),
        ("fmn:norm=1", "adv-lib", lambda: adv_lib(on, "fmn", norm=1, steps=on.steps)),
        ("sigma_zero", "adv-lib", lambda: adv_lib(on, "sigma_zero", num_steps=on.steps)),
        ("square:norm=inf", "pyautoattack", lambda: pyautoattack_square(on, "inf")),
    ]
