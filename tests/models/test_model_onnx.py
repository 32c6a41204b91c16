"""ONNX files: converted where that is faithful, run as they are otherwise."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.images import Task
from vallum.models import Model, check_model, load_model, save_model, weights_fingerprint
from vallum.models.making import need

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
need("onnx2torch")

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(3, dtype=torch.int64)


def network(last: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    if last:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)]
    return nn.Sequential(*layers).eval()


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images.permute(0, 3, 1, 2))


def export(made: nn.Module, path: Path, example: Tensor, axes: tuple[int, ...] = (0, 2, 3)) -> str:
    free: Any = {"images": {axis: f"axis{axis}" for axis in axes}} if axes else None
    if free:
        free["logits"] = {axis: f"axis{axis}" for axis in axes if axis == 0 or made(example).ndim == 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made,
            (example,),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes=free,
            dynamo=False,
            opset_version=17,
        )
    return f"onnx:{path}"


def agrees(model: Model, made: nn.Module, images: Tensor = IMAGES) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model(images), made(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradients", [True, False])
def test_the_file_gives_what_the_network_gives(tmp_path: Path, gradients: bool) -> None:
    made = network()
    model = load_model(export(made, tmp_path / "net.onnx", IMAGES) + ("" if gradients else "?gradients=false"))
    agrees(model, made)
    assert (model.differentiable, model.size, model.task) == (gradients, None, Task.CLASSIFY)
    if gradients:
        assert check_model(model, IMAGES, LABELS) == []
        inputs = [IMAGES.clone().requires_grad_() for _ in range(2)]
        for one, image in ((model, inputs[0]), (made, inputs[1])):
            one(image).square().sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-3, atol=1e-5)
    else:
        assert check_model(model, IMAGES, LABELS) == [
            "the network runs in onnxruntime, which gives no gradients, because gradients=false asks for it"
        ]


def test_the_bare_path_is_enough(tmp_path: Path) -> None:
    made = network()
    export(made, tmp_path / "net.onnx", IMAGES)
    agrees(load_model(tmp_path / "net.onnx"), made)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("gradients", ["true", "false"])
def test_a_fixed_batch_and_size_are_met(tmp_path: Path, batch: int, gradients: str) -> None:
    made = network()
    model = load_model(export(made, tmp_path / "net.onnx", IMAGES[:batch], axes=()) + f"?gradients={gradients}")
    assert model.size == (8, 8)
    agrees(model, made)
    agrees(model, made, IMAGES[:1])


def test_segmenters_are_recognised(tmp_path: Path) -> None:
    made = network(last=False)
    model = load_model(export(made, tmp_path / "net.onnx", IMAGES))
    assert model.task is Task.SEGMENT
    agrees(model, made)


def test_channels_last_is_turned(tmp_path: Path) -> None:
    made = ChannelsLast().eval()
    source = export(made, tmp_path / "net.onnx", IMAGES.permute(0, 2, 3, 1).contiguous(), axes=(0,))
    agrees(load_model(source), made.inner)
    agrees(load_model(f"{source}?gradients=false"), made.inner)


def test_what_does_not_convert_faithfully_runs_without_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, source = network(), export(network(), tmp_path / "net.onnx", IMAGES)

    def refuse(graph: object) -> nn.Module:
        raise NotImplementedError("no converter for Foo")

    def wrong(graph: object) -> nn.Module:
        return nn.Sequential(network(), nn.Softmax(1))

    for convert, says in ((refuse, "cannot convert it: no converter for Foo"), (wrong, "gives other outputs")):
        monkeypatch.setattr(need("onnx2torch"), "convert", convert)
        model = load_model(source)
        assert not model.differentiable
        assert says in model.remarks[0]
        agrees(model, made)


def test_a_converted_network_can_be_trained_and_saved(tmp_path: Path) -> None:
    model = load_model(export(network(), tmp_path / "net.onnx", IMAGES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    again = load_model(save_model(model, tmp_path / "saved"))
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model(IMAGES))


def test_the_fingerprint_of_a_session_is_that_of_its_file(tmp_path: Path) -> None:
    other = network()
    with torch.no_grad():
        other[0].weight.mul_(2)
    sources = [export(made, tmp_path / f"{i}.onnx", IMAGES) for i, made in enumerate((network(), network(), other))]
    one, same, different = (weights_fingerprint(load_model(f"{source}?gradients=false")) for source in sources)
    assert one == same != different


def test_mistakes_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff\xffno onnx")
    with pytest.raises(UserError, match="cannot be read as ONNX"):
        load_model(f"onnx:{tmp_path / 'bad.onnx'}")
    source = export(nn.Linear(4, 2), tmp_path / "flat.onnx", torch.rand(1, 4), axes=(0,))
    with pytest.raises(UserError, match="one input of floats is needed: a batch of images"):
        load_model(source)
    source = export(network(), tmp_path / "net.onnx", IMAGES, axes=(0,))
    with pytest.raises(UserError, match="onnxruntime cannot run the network"):
        check_model(load_model(f"{source}?gradients=false"), torch.rand(3, 3, 9, 9), LABELS)
    with pytest.raises(UserError, match="did you mean gradients"):
        load_model(f"{source}?gradient=false")
