"""How the attack objects of other libraries are pointed at a model: each library is one function.

Their objects hold the model that they were made with. A copy is made in which that model, wherever it is kept, is the
one to be attacked; so the object itself stays as it was.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vallum.errors import UserError, a

Run = Callable[[Tensor, Tensor], Tensor]  # (images, labels) -> images


class Ball(NamedTuple):
    eps: float | None
    norm: str | None


def library_of(attack: Any) -> str:
    kind = (
        attack if hasattr(attack, "__module__") and callable(attack) and hasattr(attack, "__name__") else type(attack)
    )
    return (kind.__module__ or "").partition(".")[0]


def runner_of(attack: Any, model: nn.Module, ball: Ball) -> Run:
    """The attack as a function of images and labels, on this model."""
    make = LIBRARIES.get(library_of(attack)) if not _is_function(attack) else None
    return make(attack, model, ball) if make is not None else functools.partial(attack, model)


def ball_of(attack: Any) -> Ball:
    """The ball that an object says it keeps to, if it says so: foreign objects have it among their attributes."""
    if _is_function(attack) or library_of(attack) not in (*LIBRARIES, "__main__"):
        return Ball(None, None)
    eps = getattr(attack, "eps", getattr(attack, "epsilon", None))
    norm = NORMS.get(str(getattr(attack, "norm", None)).lower().removeprefix("l"))
    if norm is None and library_of(attack) == "torchattacks":
        norm = "2" if type(attack).__name__.endswith("L2") else "inf"
    if library_of(attack) == "foolbox":  # whose attacks are told their radius when they are called
        norm = _distance(attack)
    return Ball(float(eps) if isinstance(eps, int | float) else None, norm)


def with_model(attack: Any, old: Any, new: Any) -> Any:
    """A copy of the attack where `new` stands in every place that held `old`."""
    return copy.deepcopy(attack, {id(old): new})


def torchattacks(attack: Any, model: nn.Module, ball: Ball) -> Run:
    pointed = with_model(attack, attack.model, model)
    pointed.device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return pointed


def pyautoattack(attack: Any, model: nn.Module, ball: Ball) -> Run:
    pointed = with_model(attack, attack.model, model)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        found = pointed.run_standard_evaluation(images, labels)
        return found[0] if isinstance(found, tuple) else found

    return run


def foolbox(attack: Any, model: nn.Module, ball: Ball) -> Run:
    import foolbox as library

    if ball.eps is None:
        raise UserError(
            f"foolbox's {type(attack).__name__} keeps no radius", "eps is needed", "wrap it: Own(attack, eps=8 / 255)"
        )
    if (takes := _distance(attack)) not in (None, ball.norm):
        raise UserError(
            f"foolbox's {type(attack).__name__} takes its radius in norm {takes}, not {ball.norm}",
            remedy=f"leave norm out, or write norm={takes}",
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    bounded = library.PyTorchModel(model.eval(), bounds=(0, 1), device=device)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        return attack(bounded, images, labels, epsilons=ball.eps)[1]

    return run


def art(attack: Any, model: nn.Module, ball: Ball) -> Run:
    from art.estimators.classification import PyTorchClassifier

    held = attack.estimator
    if not isinstance(held, PyTorchClassifier):
        raise UserError(f"the attack's estimator is {a(held)}", "a PyTorchClassifier is needed")
    estimator = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), held.input_shape, held.nb_classes, clip_values=held.clip_values,
        device_type="gpu" if next(iter(model.parameters()), torch.zeros(0)).is_cuda else "cpu",
    )  # fmt: skip
    pointed = with_model(attack, held, estimator)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        found = pointed.generate(x=images.cpu().numpy().astype(np.float32), y=labels.cpu().numpy())
        return torch.from_numpy(found).to(images)

    return run


LIBRARIES: dict[str, Callable[[Any, nn.Module, Ball], Run]] = {
    "torchattacks": torchattacks,
    "pyautoattack": pyautoattack,
    "autoattack": pyautoattack,
    "foolbox": foolbox,
    "art": art,
}
NORMS = {"inf": "inf", "np.inf": "inf", "1": "1", "2": "2", "0": "0"}


def _distance(attack: Any) -> str | None:
    """The norm of a foolbox attack; those that are right for several, or for none, do not say it."""
    try:
        return NORMS.get(f"{attack.distance.p:g}")
    except (ValueError, AttributeError):
        return None


def _is_function(attack: Any) -> bool:
    """A function of (model, images, labels), as adv-lib's attacks are: it needs nothing."""
    return isinstance(attack, functools.partial) or hasattr(attack, "__code__")
