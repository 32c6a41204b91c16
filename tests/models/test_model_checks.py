"""Every mistake in handing a model over is caught on the first batch, with its remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Task
from vallum.models import Model, check_model, load_model

IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])
WEIGHTS = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))


def linear(images: Tensor) -> Tensor:
    return images.flatten(1) @ WEIGHTS


def by_pixel(images: Tensor) -> Tensor:
    return torch.einsum("nchw,ck->nkhw", images, WEIGHTS[:3])


def of(function: Callable[[Tensor], Any], **settings: Any) -> Model:
    return load_model(function, **settings)


def segmenter() -> Model:
    return of(by_pixel, task=Task.SEGMENT)


def test_a_sound_model_passes_and_learns_its_classes() -> None:
    model = of(linear)
    assert check_model(model, IMAGES, LABELS, ["a", "b", "c", "d"]) == []
    assert model.classes == ("a", "b", "c", "d")
    unnamed = of(linear)
    assert check_model(unnamed, IMAGES, LABELS) == []
    assert unnamed.classes == ("0", "1", "2", "3")
    pixels = segmenter()
    assert check_model(pixels, IMAGES, torch.randint(4, (6, 4, 4)), 4) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda images: linear(images).log_softmax(1),
        lambda images: linear(images)[:, 0],
        lambda images: linear(images)[:, :2],
        lambda images: linear(images) / 100,
    ],
    ids=["log-softmax", "single logit", "two classes", "small logits"],
)
def test_unusual_but_sound_outputs_pass(function: Callable[[Tensor], Tensor]) -> None:
    assert check_model(of(function), IMAGES, LABELS % 2) == []


@pytest.mark.parametrize("outputs", ["softmax", "sigmoid"])
def test_probabilities_that_are_declared_pass(outputs: str) -> None:
    function = (lambda x: linear(x).softmax(1)) if outputs == "softmax" else (lambda x: linear(x)[:, :1].sigmoid())
    assert check_model(of(function, outputs="probabilities"), IMAGES, LABELS % 2) == []


def test_training_mode_of_any_part() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(48, 4))
    with pytest.raises(UserError, match=r"in training mode.*call model.eval\(\)"):
        check_model(load_model(network), IMAGES, LABELS)
    network.eval()
    network[1].train()
    with pytest.raises(UserError, match=r"training mode: network\.1: "):
        check_model(load_model(network), IMAGES, LABELS)


class Bare(Model):
    """A Model that promises a shape by itself."""

    def __init__(self, function: Callable[[Tensor], Tensor], task: Task = Task.CLASSIFY) -> None:
        super().__init__()
        self.function, self.task = function, task
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (of(lambda x: linear(x)[:3]), "3 outputs for 6 images.*squeeze no axis"),
        (of(lambda x: linear(x) / 0), "NaN or infinity.*half precision"),
        (of(lambda x: linear(x).softmax(1)), "returns probabilities.*remove the softmax.*outputs='probabilities'"),
        (Bare(by_pixel), r"shape \(6, 4, 4, 4\).*task='classify'.*task="),
        (Bare(lambda x: by_pixel(x)[..., ::2], Task.SEGMENT), r"shape \(6, 4, 4, 2\).*\(N, K, H, W\)"),
        (of(linear, classes=5), "4 outputs, and its classes name 5"),
        (load_model(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).eval()), r"images of 3x4x4.*size="),
    ],
    ids=["lost images", "infinity", "softmax", "segmenter", "low resolution", "own classes", "shape"],
)
def test_what_would_make_every_number_wrong(model: Model, says: str) -> None:
    labels = LABELS if model.task is Task.CLASSIFY else LABELS[:, None, None].expand(6, 4, 4)
    with pytest.raises(UserError, match=says):
        check_model(model, IMAGES, labels)


def test_softmax_of_a_segmenter_too() -> None:
    model = of(lambda x: by_pixel(x).softmax(1), task=Task.SEGMENT)
    with pytest.raises(UserError, match="returns probabilities"):
        check_model(model, IMAGES, torch.zeros(6, 4, 4, dtype=torch.int64))


def test_class_counts_and_orders_that_disagree() -> None:
    with pytest.raises(UserError, match="tells 4 classes apart, the data have 10"):
        check_model(of(linear), IMAGES, LABELS, 10)
    with pytest.raises(
        UserError, match=r"data have 2 \(0, 1\).*\?classes=4 after their source, or load_data\(\.\.\., classes=4\)"
    ):
        check_model(of(linear), IMAGES, LABELS % 2, 2)
    with pytest.raises(UserError, match=r"data have 2 \(cat, dog\).*\?classes=NAME,NAME"):
        check_model(of(linear), IMAGES, LABELS % 2, ["cat", "dog"])
    with pytest.raises(UserError, match=r"class 0 is 'a' to the model and 'b' in the data.*order"):
        check_model(of(linear, classes=["a", "b", "c", "d"]), IMAGES, LABELS, ["b", "a", "c", "d"])
    model = of(linear, classes=["a", "b", "c", "d"])
    assert check_model(model, IMAGES, LABELS, 4) == []  # numbers and names are no contradiction
    assert model.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (LABELS + 1, "reach from 1 to 4: 0 to 3"),
        (LABELS - 1, "reach from -1 to 2"),
        (torch.full((6,), 255), "reach from 255 to 255"),
        (LABELS.float(), "torch.float32.*integers"),
        (LABELS[:4], r"shape \(4,\).*shape \(6,\)"),
        (LABELS[:, None, None].expand(6, 4, 4), r"task='classify'.*check task="),
    ],
)
def test_labels_that_cannot_be(labels: Tensor, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_model(of(linear), IMAGES, labels)


def test_pixels_to_ignore_are_no_class() -> None:
    labels = torch.zeros(6, 4, 4, dtype=torch.int64)
    labels[0] = 255
    assert check_model(segmenter(), IMAGES, labels) == []
    assert check_model(segmenter(), IMAGES, torch.full((6, 4, 4), 255)) == []
    labels[0] = 254
    with pytest.raises(UserError, match=r"to 254: 0 to 3 .*and 255 for pixels to ignore"):
        check_model(segmenter(), IMAGES, labels)


def test_a_fixed_size_is_named() -> None:
    with pytest.raises(UserError, match=r"does not take images of 3x4x4: it wants 32x32; load the data with size=32"):
        check_model(load_model("net:vit?classes=4"), IMAGES, LABELS)


def test_devices_must_be_one() -> None:
    model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval().to("meta"))
    with pytest.raises(UserError, match=r"images are on cpu, the model on meta.*device="):
        check_model(model, IMAGES, LABELS)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x: linear(x * 0), "exactly the same output.*weights are loaded"),
        (lambda x: linear(x)[:, :1].sigmoid(), r"lies in \[0, 1\].*sigmoid.*outputs='probabilities'"),
        (lambda x: linear(x).sigmoid(), r"lies in \[0, 1\]"),
        (lambda x: linear((x * 8).round() / 8), "zero everywhere for 6 of 6.*straight through"),
        (lambda x: linear(x).detach(), "no gradient.*only attacks without gradients.*surface"),
        (lambda x: linear(torch.from_numpy(x.numpy())), r"no gradient with respect to its images: Can't call numpy"),
        (lambda x: linear(x) + (x.flatten(1)[:, :1] * 0).sqrt(), "gradient with respect to the images holds NaN"),
    ],
    ids=["constant", "sigmoid", "sigmoids", "rounding", "detached", "numpy", "nan gradient"],
)
def test_what_is_merely_suspicious_is_a_warning(function: Callable[[Tensor], Tensor], says: str) -> None:
    warnings = check_model(of(function), IMAGES, LABELS % 2)
    joined = "\n".join(warnings)
    assert re.search(says, joined), joined


def test_only_a_model_without_any_gradient_is_marked_as_such() -> None:
    for function, differentiable in (
        (linear, True),
        (torch.no_grad()(linear), False),
        (lambda x: linear(x.round()), True),
    ):
        model = of(function)
        check_model(model, IMAGES, LABELS)
        assert model.differentiable is differentiable


def test_some_dead_images_are_counted() -> None:
    warnings = check_model(of(lambda x: linear(x * (x[:, :1, :1, :1] > IMAGES[:, 0, 0, 0].median()))), IMAGES, LABELS)
    assert any("for 3 of 6 images" in line for line in warnings)


def test_remarks_of_a_source_are_handed_on_and_nothing_else_changes() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 4)).eval()
    model = load_model(network)
    model.remarks = ("trained elsewhere",)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert check_model(model, IMAGES, LABELS) == ["trained elsewhere"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not IMAGES.requires_grad


def test_one_image_is_enough() -> None:
    assert check_model(of(linear), IMAGES[:1], LABELS[:1]) == []
    assert "same output" in check_model(of(lambda x: linear(x * 0) + 2), IMAGES[:1], LABELS[:1])[0]
