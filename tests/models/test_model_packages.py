"""Networks that timm, torchvision, segmentation-models-pytorch and vallum itself lay out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vallum.errors import UserError
from vallum.images import Task
from vallum.models import Model, Wrapped, load_model
from vallum.models.making import need
from vallum.models.request import IMAGENET_MEAN, IMAGENET_STD

SMALL = {
    "timm": "timm:test_resnet?num_classes=5",
    "torchvision": "torchvision:squeezenet1_1?num_classes=5",
    "smp": "smp:FPN?encoder=resnet18&classes=5&decoder_segmentation_channels=32",
    "net": "net:resnet?classes=5",
}


def load(source: str, **settings: Any) -> Wrapped:
    model = load_model(source, **settings)
    assert isinstance(model, Wrapped)
    assert not any(module.training for module in model.modules())
    return model


def logits(model: Model, size: int = 64, channels: int = 3) -> Tensor:
    images = torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(images)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(need("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("source", SMALL.values(), ids=SMALL)
def test_a_network_by_name(source: str) -> None:
    model = load(source)
    assert model.spec == source
    spatial = (64, 64) if model.task is Task.SEGMENT else ()
    assert logits(model).shape == (2, 5, *spatial)
    assert model.task is (Task.SEGMENT if source.startswith("smp") else Task.CLASSIFY)


@pytest.mark.parametrize("source", SMALL.values(), ids=SMALL)
def test_weights_from_a_file_are_loaded_strictly(source: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained, file = load(source), tmp_path / "w.safetensors"
    save_file(trained.network.state_dict(), file)
    usual = {"mean": trained.mean.flatten().tolist(), "std": trained.std.flatten().tolist()}
    again = load(f"{source}&weights={file}", **usual)
    assert torch.equal(logits(again), logits(trained))
    save_file(trained.state_dict(), file)  # as vallum saves it, with the wrapper's prefix
    assert torch.equal(logits(load(f"{source}&weights={file}", **usual)), logits(again))
    assert str(file) not in again.build
    with pytest.raises(UserError, match=r"do not fit.*shapes differ:.*number of classes"):
        load(f"{source.replace('=5', '=7', 1)}&weights={file}")
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(UserError, match="is a pickle"):
        load(f"{source}&weights={tmp_path / 'w.pth'}")


def test_the_number_of_classes_may_come_from_their_names() -> None:
    for source in ("timm:test_resnet", "torchvision:squeezenet1_1", "smp:FPN?encoder=resnet18", "net:resnet"):
        model = load(source, classes=["a", "b", "c"])
        assert logits(model).shape[1] == 3
        assert model.classes == ("a", "b", "c")
        assert "classes=3" in model.build


def test_timm_brings_its_normalisation_and_fixed_size() -> None:
    model = load("timm:vit_tiny_patch16_224?img_size=64&depth=1&num_classes=3")
    assert model.size == (64, 64)
    assert model.mean.flatten().tolist() == model.std.flatten().tolist() == [0.5] * 3
    assert logits(model).shape == (2, 3)
    free = load("timm:resnet10t")
    assert free.size is None
    torch.testing.assert_close(free.mean.flatten(), torch.tensor(IMAGENET_MEAN))
    assert load("timm:test_resnet", mean=0.1, std=0.2).mean.flatten().tolist() == pytest.approx([0.1])


def test_torchvision_segments_without_downloading() -> None:
    model = load("torchvision:lraspp_mobilenet_v3_large?num_classes=4")
    assert model.task is Task.SEGMENT
    assert logits(model).shape == (2, 4, 64, 64)


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
@pytest.mark.parametrize(
    ("name", "truth", "size"),
    [
        ("googlenet", {"num_classes": 1000, "aux_logits": False, "init_weights": False}, (224, 224)),
        ("deeplabv3_mobilenet_v3_large", {"num_classes": 21, "aux_loss": True, "weights_backbone": None}, None),
    ],
)
def test_torchvision_weights_bring_classes_normalisation_and_build(
    name: str, truth: dict[str, Any], size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = need("torchvision.models")
    trained = models.get_model(name, weights=None, **truth)
    if name == "googlenet":  # its trained weights hold the auxiliary heads that it then drops
        trained = models.get_model(name, weights=None, **{**truth, "aux_logits": True})
    enum = models.get_model_weights(name)
    monkeypatch.setattr(enum, "get_state_dict", lambda self, **how: trained.state_dict())
    model = load(f"torchvision:{name}?weights=DEFAULT")
    assert model.classes == tuple(enum.DEFAULT.meta["categories"])
    assert (model.size, model.mean.flatten().tolist()) == (size, pytest.approx(IMAGENET_MEAN))
    assert model.std.flatten().tolist() == pytest.approx(IMAGENET_STD)
    # What the weights switched on in secret, the build repeats.
    rebuilt = load(model.build)
    assert rebuilt.network.state_dict().keys() == model.network.state_dict().keys()
    assert getattr(rebuilt.network, "transform_input", None) == getattr(model.network, "transform_input", None)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("timm:resnet81", "timm has no model 'resnet81'; did you mean resnet"),
        ("timm:test_resnet?colour=red", "cannot be built.*colour"),
        ("timm:test_resnet?checkpoint_path=x.pth", "weights=FILE.safetensors"),
        ("timm:test_resnet?pretrained=true", "cannot be fetched.*check the network, or give the weights"),
        ("torchvision:resnet81", "no classifier or segmenter 'resnet81'; did you mean resnet"),
        ("torchvision:resnet18?weights=NOPE", "cannot be built.*NOPE"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classifier or segmenter"),
        ("smp:Unnet?classes=3", "did you mean Unet"),
        ("smp:Unet?encoder=resnet18", "lacks the number of classes"),
        ("smp:Unet?classes=3&color=red", "no option 'color'"),
        ("smp:Unet?classes=3&encoder=nope", "cannot be built.*nope"),
        ("smp:Unet?classes=3&encoder=resnet18&encoder_weights=imagenet", "cannot be fetched"),
        ("net:rasnet?classes=3", "did you mean resnet"),
        ("net:resnet", "lacks the number of classes"),
        ("net:resnet?classes=3&size=32", "no option 'size'"),
        ("net:vit?classes=3&size=30", "a multiple of 8"),
        ("net:vit?classes=many", "a positive whole number"),
        ("builtin:nobody", "no built-in model is called 'nobody': there are: "),
    ],
)
def test_mistakes_are_named(source: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_model(source)


@pytest.mark.parametrize(
    ("source", "size", "most_parameters", "most_flops"),
    [("net:resnet?classes=43", 32, 1e6, 15e6), ("net:vit?classes=43", 32, 1e6, 40e6)],
)
def test_the_small_nets_stay_small(source: str, size: int, most_parameters: float, most_flops: float) -> None:
    model = load(source)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, 3, size, size))
    assert sum(parameter.numel() for parameter in model.parameters()) <= most_parameters
    assert counter.get_total_flops() <= most_flops


def test_the_small_nets_take_other_sizes_and_grey_images() -> None:
    assert logits(load("net:resnet?classes=4&channels=1"), size=28, channels=1).shape == (2, 4)
    vit = load("net:vit?classes=4&size=64")
    assert vit.size == (64, 64)
    assert logits(vit).shape == (2, 4)
