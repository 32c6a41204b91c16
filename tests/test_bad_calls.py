"""What people get wrong in Python, one row each, and words of the error that tells them what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vallum
from vallum.defences.base import Defence, Surface
from vallum.errors import UserError
from vallum.evaluation import Run
from vallum.images import check_images
from vallum.models import load_model
from vallum.threats import PGD, Gaussian


def toy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()


X, Y = torch.rand(6, 3, 8, 8), torch.arange(6) % 4


def run(out: Path, model: Any = None, data: Any = (X, Y), threats: Any = "gaussian:std=0.1", **options: Any) -> Run:
    return vallum.evaluate(toy() if model is None else model, data, threats, out=out, progress=False, **options)


class Declared(Defence):
    """A defence that calls the ways to attack it by given names."""

    def __init__(self, *names: str) -> None:
        super().__init__(load_model(toy()))
        self.names = names

    def attack_surfaces(self) -> list[Surface]:
        return [Surface(name, self) for name in self.names]

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def as_floats(image: Tensor) -> Tensor:
    return image.flatten(1)[:, :4]


API: dict[str, tuple[Callable[[Path], object], str]] = {
    "bytes as integers": (lambda out: run(out, data=((X * 255).long(), Y)), "convert it, as in images / 255"),
    "uint8 where floats belong": (lambda out: check_images((X * 255).byte()), r"use images.float\(\) / 255"),
    "pixels up to 255": (lambda out: run(out, data=(X * 255, Y)), "divide them by 255"),
    "normalised pixels": (lambda out: run(out, data=(X * 4 - 2, Y)), r"load_model\(..., mean=, std=\)"),
    "pixels that are no number": (lambda out: run(out, data=(X * float("nan"), Y)), "NaN or infinity"),
    "channels last": (lambda out: check_images(X.permute(0, 2, 3, 1)), r"images.permute\(0, 3, 1, 2\)"),
    "one image": (lambda out: check_images(X[0]), r"add a batch axis with images\[None\]"),
    "an array": (lambda out: check_images(X.numpy()), "use torch.as_tensor"),
    "no images": (lambda out: check_images(X[:0]), "check what was selected"),
    "five axes": (lambda out: run(out, data=(X[None], Y)), "reshape them"),
    "labels that are no whole numbers": (lambda out: run(out, data=(X, Y + 0.5)), "mend the data set's labels"),
    "more labels than images": (lambda out: run(out, data=(X, torch.cat([Y, Y]))), "give each image one label"),
    "labels beyond the classes": (
        lambda out: run(out, data=vallum.load_data((X, Y), classes=["a", "b"])),
        "there are 2 classes",
    ),
    "images of several sizes": (lambda out: run(out, data=[(X[0], 0), (torch.rand(3, 9, 9), 1)]), "give one size"),
    "data that cannot be read by place": (lambda out: run(out, data=3), "pass a map-style data set"),
    "a model in training mode": (lambda out: run(out, toy().train()), r"call model.eval\(\)"),
    "a model with other classes": (
        lambda out: run(out, nn.Sequential(toy(), nn.Linear(4, 3)).eval()),
        "the data have 4",
    ),
    "probabilities": (lambda out: run(out, nn.Sequential(toy(), nn.Softmax(1)).eval()), "remove the softmax"),
    "a class": (lambda out: run(out, nn.Linear), r"make the network first, as load_model\(Net\(\)\)"),
    "a number as model": (lambda out: run(out, 3), "an int is no model"),
    "no models": (lambda out: run(out, {}), "no model is given"),
    "two models of one name": (lambda out: run(out, [toy(), toy()]), "give them names: {'first'"),
    "a threat's class": (lambda out: run(out, threats=[PGD]), r"or as PGD\(8 / 255\)"),
    "a number as threat": (lambda out: run(out, threats=3), "3 is no threat"),
    "an attack at eps=8": (lambda out: PGD(8), "write eps=8/255"),
    "an attack of no norm": (lambda out: PGD(0.1, norm="7"), "one of inf, 2, 1"),
    "a key too few": (lambda out: Gaussian(0.1)(None, X, Y, [1]), "one integer per image is needed"),
    "what no process can take": (lambda out: run(out, lambda images: as_floats(images), workers=2), "use workers=1"),
    "a gradient attack on a black box": (
        lambda out: run(out, lambda images: as_floats(images).detach(), threats="pgd:eps=8/255"),
        "use a black-box attack",
    ),
    "two surfaces of one name": (lambda out: run(out, Declared("direct", "direct")), "rename them in its attack_surf"),
    "a surface called union": (lambda out: run(out, Declared("union", "direct")), "none is called union"),
    "SQL on a run": (lambda out: run(out).query("SELECT"), "that SQL cannot be run"),
}


@pytest.mark.parametrize("row", API)
def test_the_functions_say_what_is_wrong(tmp_path: Path, row: str) -> None:
    mistake, words = API[row]
    with pytest.raises(UserError, match=words):
        mistake(tmp_path / "out")


def test_a_cluster_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 'nowhere'.*`ray start --head`"):
        run(tmp_path, ray="nowhere")
