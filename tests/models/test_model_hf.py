"""Folders in the format of Hugging Face transformers; nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from vallum.errors import UserError
from vallum.images import Task
from vallum.models import check_model, load_model, save_model
from vallum.models.making import need
from vallum.models.sources.hf import _normalisation, _size

pytest.importorskip("transformers")
transformers = need("transformers")

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
NAMES = ["stop", "yield", "go"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(need("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)


def classifier() -> Any:
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(NAMES)),
        label2id={name: i for i, name in enumerate(NAMES)},
    )
    return transformers.ViTForImageClassification(config).eval()


def segmenter() -> Any:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=[4, 8, 8, 8],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_labels=3,
    )
    return transformers.SegformerForSemanticSegmentation(config).eval()


def test_a_classifier_with_its_processor(tmp_path: Path) -> None:
    made = classifier()
    made.save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4, 0.5, 0.6])
    processor.save_pretrained(tmp_path)
    model = load_model(f"hf:{tmp_path}")
    assert (model.task, model.classes, model.size) == (Task.CLASSIFY, tuple(NAMES), (32, 32))
    pixels = processor(list((IMAGES * 255).round().byte()), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        torch.testing.assert_close(model((IMAGES * 255).round() / 255), made(pixels).logits)
    assert check_model(model, IMAGES, torch.tensor([0, 2]), NAMES) == []


def test_a_segmenter_answers_at_the_size_of_its_images(tmp_path: Path) -> None:
    made = segmenter()
    made.save_pretrained(tmp_path)
    model = load_model(f"hf:{tmp_path}")
    assert model.task is Task.SEGMENT
    with torch.no_grad():
        found, coarse = model(IMAGES), made(IMAGES).logits
    assert coarse.shape == (2, 3, 8, 8)
    torch.testing.assert_close(found, torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear"))
    warnings = check_model(model, IMAGES, torch.zeros(2, 32, 32, dtype=torch.int64))
    assert len(warnings) == 1
    assert "no image processor" in warnings[0]
    assert load_model(f"hf:{tmp_path}", mean=0.5, std=0.5).remarks == ()


@pytest.mark.parametrize("make", [classifier, segmenter])
def test_saved_folders_need_neither_hub_nor_source(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().save_pretrained(tmp_path / "hub")
    model = load_model(f"hf:{tmp_path / 'hub'}", mean=0.5, std=0.25)
    saved = save_model(model, tmp_path / "saved")
    (tmp_path / "hub").rename(tmp_path / "gone")
    again = load_model(saved)
    assert (again.task, again.classes) == (model.task, model.classes)
    assert str(tmp_path / "hub") not in (saved / "vallum.json").read_text()
    with torch.no_grad():
        assert torch.equal(again(IMAGES), model(IMAGES))


def test_weights_as_a_pickle_are_not_loaded(tmp_path: Path) -> None:
    made = classifier()
    made.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"cannot be fetched.*safetensors"):
        load_model(f"hf:{tmp_path}")


def test_without_a_network_the_remedy_is_a_folder() -> None:
    with pytest.raises(UserError, match=r"hf:nobody/nothing cannot be fetched.*write hf:FOLDER"):
        load_model("hf:nobody/nothing")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.4], "image_std": [0.2]},
        {"do_rescale": True, "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"do_rescale": False, "do_normalize": True, "image_mean": [127.0], "image_std": [64.0]},
    ],
)
def test_normalisation_is_the_processors(settings: dict[str, Any]) -> None:
    bytes_ = torch.arange(256.0)
    expected = bytes_ * settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else bytes_
    expected = expected - 1 if settings.get("rescale_offset") else expected
    if settings.get("do_normalize"):
        expected = (expected - settings["image_mean"][0]) / settings["image_std"][0]
    (mean,), (std,) = _normalisation(settings)
    torch.testing.assert_close((bytes_ / 255 - mean) / std, expected)
    if not settings:
        assert (mean, std) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, None),
        ({"size": {"height": 3, "width": 4}}, (3, 4)),
        ({"size": {"shortest_edge": 5}}, (5, 5)),
        ({"size": 7}, (7, 7)),
        ({"size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}}, (8, 8)),
    ],
)
def test_the_size_is_what_the_network_sees(settings: dict[str, Any], size: tuple[int, int] | None) -> None:
    assert _size(settings) == size
