"""Pre-training and fine-tuning: what learns, from what, and what comes of it in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from noisy_toys import ENCODER, HARDENING, SETTINGS, SMALL, Slopes, convolutional, linear, transformer, untrained

import vallum
from vallum.defences import Context, De3, NoisyModellingPretraining, recipe
from vallum.defences.noisy_modelling.hardening import start_from_encoder
from vallum.defences.noisy_modelling.noise import add_noise, noise_law
from vallum.errors import UserError
from vallum.models import load_model, saved_facts

QUIET: dict[str, Any] = {"quiet": True, "validation": 0.0, "shift": 0.0, "colour": 0.0, "checkpoint_every": 0}
BATCH = Slopes(12).batch(range(12))


@pytest.mark.parametrize("law", ["0.3", "uniform(0,0.5)", "paper"])
def test_noise_modelling_is_the_distance_to_the_clean_image_from_noise_of_each_images_own(law: str) -> None:
    defence, made = untrained(), NoisyModellingPretraining(noise=law)
    context = Context(seed=5, epoch=2)
    draws = context.draws(BATCH.keys, "noisy modelling")
    noisy = add_noise(BATCH.images, noise_law(law).draw(draws), draws)
    with torch.no_grad():
        expected = F.mse_loss(defence.denoiser(noisy) / 0.25, BATCH.images / 0.25)
        assert float(made.step(defence, BATCH, context)["loss"]) == pytest.approx(float(expected), rel=1e-5)
        parts = [made.step(defence, Slopes(12).batch([i]), context)["loss"] for i in range(12)]
    assert float(torch.stack(parts).mean()) == pytest.approx(float(expected), rel=1e-5)  # in any batch the same


def test_masked_modelling_is_the_same_recipe_without_noise() -> None:
    defence = untrained()
    made = recipe("noisy_modelling_pretraining:noise=0,mask=0.75,loss_on=hidden")
    assert isinstance(made, NoisyModellingPretraining)
    context = Context(seed=5)
    hidden = defence.denoiser.hide(0.75, context.draws(BATCH.keys, "noisy modelling"))  # type: ignore[operator]
    assert hidden.sum(1).tolist() == [12] * 12
    with torch.no_grad():
        expected = defence.denoiser.loss(BATCH.images, BATCH.images, hidden, all_patches=False)  # type: ignore[operator]
        assert torch.equal(made.step(defence, BATCH, context)["loss"], expected.mean())


def test_only_the_denoiser_learns_and_then_only_the_classifier(tmp_path: Path) -> None:
    model = linear()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = f"noisy_modelling_pretraining:{SMALL}"
    defence = vallum.train(model, Slopes(64), first, out=tmp_path / "a", epochs=1, optimizer="adamw", **QUIET)
    assert isinstance(defence, De3)
    start = untrained().denoiser.state_dict()
    learnt = {name: value.clone() for name, value in defence.denoiser.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in defence.model.state_dict().items())
    assert not torch.equal(learnt["decoder.out.weight"], start["decoder.out.weight"])
    second = "noisy_modelling:pretraining_epochs=0"
    again = vallum.train(defence, Slopes(64), second, out=tmp_path / "b", epochs=1, lr=0.01, **QUIET)
    assert again is defence
    assert all(torch.equal(value, learnt[name]) for name, value in defence.denoiser.state_dict().items())
    assert not torch.equal(defence.model.state_dict()["network.1.weight"], before["network.1.weight"])


def test_hardening_from_the_encoder(tmp_path: Path) -> None:
    """The classifier starts as the encoder that was pre-trained, with its own head."""
    made = f"noisy_modelling:width=32,depth=1,heads=2,start=encoder,pretraining_epochs=1,encoder={ENCODER}"
    out = tmp_path / "out"
    vallum.train(transformer(), Slopes(64), made, out=out, epochs=1, lr=1e-9, **QUIET)
    first, second = load_model(out / "pretraining"), load_model(out)
    learnt, used = first.denoiser.encoder.state_dict(), second.model.network.state_dict()  # type: ignore[union-attr]
    assert all(torch.allclose(used[name], value, atol=1e-6) for name, value in learnt.items())
    assert set(used) - set(learnt) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
    with pytest.raises(UserError, match="the same transformer"):
        start_from_encoder(untrained())


def test_a_hardened_folder_says_how_it_was_made_and_goes_on_where_it_was(hardened: Path) -> None:
    facts = saved_facts(hardened)
    assert facts["extra"]["training"]["recipe"].startswith("noisy_modelling:sigma=0.2")
    assert saved_facts(hardened / "pretraining")["extra"]["training"]["recipe"].startswith(
        "noisy_modelling_pretraining:"
    )
    before = (hardened / "weights.safetensors").read_bytes()
    vallum.train(convolutional(), Slopes(1200), HARDENING, out=hardened, **SETTINGS)  # type: ignore[arg-type]
    assert (hardened / "weights.safetensors").read_bytes() == before
    rows = (hardened / "log.csv").read_text().splitlines()
    assert float(dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))["validation_accuracy"]) > 0.8


def test_harden_on_the_command_line_for_a_folder_of_images(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image
    from typer.testing import CliRunner

    from vallum.cli import app

    data = Slopes(16)
    for i in range(16):
        folder = tmp_path / "photos" / data.classes[i % 4]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (data.read(i)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    model = "timm:vit_tiny_patch16_224?img_size=8&patch_size=2&embed_dim=32&depth=1&num_heads=2"
    done = CliRunner().invoke(app, [
        "harden", model, "--data", f"folder:{tmp_path / 'photos'}", "--out", str(tmp_path / "out"), "--quiet",
        "--with", "noisy_modelling:sigma=0.1,width=32,heads=2", "--epochs", "1", "--lr", "0.01",
        "--batch-size", "8", "--validation", "0",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    saved = load_model(tmp_path / "out")
    assert isinstance(saved, De3)
    assert json.loads((tmp_path / "out" / "vallum.json").read_text())["classes"] == sorted(data.classes)
    done = CliRunner().invoke(app, ["tune", str(tmp_path / "out"), "sigma=0.05", "draws=3"])
    assert done.exit_code == 0, done.output
    again = load_model(tmp_path / "out")
    assert (again.sigma, again.draws) == (0.05, 3)  # type: ignore[union-attr]
    assert saved_facts(tmp_path / "out")["extra"]["training"]["recipe"].startswith("noisy_modelling:sigma=0.1")
    for wrong, said in (
        ("sgima=1", "no knob 'sgima'"),
        ("sigma", "write KNOB=VALUE"),
        ("draws=0", "at least 1"),
        ("sigma=2", "write sigma=2/255"),
    ):
        done = CliRunner().invoke(app, ["tune", str(tmp_path / "out"), wrong])
        assert isinstance(done.exception, UserError)
        assert said in str(done.exception)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("noisy_modelling:sigma=70,noise=0.1", None),  # refused where the defence is made
        ("noisy_modelling_pretraining:mask=1", "a share below 1"),
        ("noisy_modelling_pretraining:loss_on=hidden", "with a mask hidden"),
        ("noisy_modelling_pretraining:noise=0", "nothing to learn"),
        ("noisy_modelling_pretraining:noise=gauss(1,2)", "no law of noise"),
        ("noisy_modelling:finetuning_noise=70", "70/255"),
        ("noisy_modelling:start=nowhere", "one of model, encoder"),
        ("noisy_modelling:label_smoothing=1", "a share below 1"),
        ("noisy_modelling:decoder=lstm", "one of transformer, linear"),
    ],
)
def test_specs_that_make_no_sense(spec: str, said: str | None) -> None:
    if said is None:
        with pytest.raises(UserError, match="pixels are in"):
            recipe(spec).around(linear(), BATCH.images)
        return
    with pytest.raises(UserError, match=said):
        recipe(spec)


def test_a_step_needs_a_denoiser() -> None:
    with pytest.raises(UserError, match="has no denoiser"):
        NoisyModellingPretraining().step(linear(), BATCH, Context())


def test_a_denoiser_that_has_learnt_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no denoiser yet"):
        recipe(f"noisy_modelling:pretraining_epochs=0,{SMALL}").around(linear(), BATCH.images)
    ready = untrained()
    assert recipe(f"noisy_modelling:pretraining_epochs=0,{SMALL}").around(ready, BATCH.images) is ready


def test_a_transformer_of_any_size_gets_an_encoder_of_the_images_size() -> None:
    model = load_model(ENCODER.replace("img_size=8", "img_size=16") + "&dynamic_img_size=true", classes=4)
    defence = recipe("noisy_modelling:sigma=0.1,width=32,heads=2").around(model, BATCH.images)
    assert defence(BATCH.images).shape == (len(BATCH), 4)


def test_hardening_on_the_command_line_ends_with_an_attack_and_says_what_next(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from vallum.cli import app

    own = tmp_path / "own.py"
    own.write_text("import torch\n\ndef build():\n    return torch.nn.AvgPool2d(3, 1, 1, count_include_pad=False)\n")
    done = CliRunner().invoke(app, [
        "harden", "net:resnet", "--data", "builtin:signs?n=96", "--out", str(tmp_path / "out"), "--epochs", "1",
        "--with", f"noisy_modelling:sigma=0.1,denoiser={own}:build,pretraining_epochs=0", "--validation", "0.2",
        "--batch-size", "32", "--evaluate", "4", "--robust-images", "0",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"vallum evaluate '{tmp_path / 'out'}?trust=true'" in done.output.replace("\n", "")
    assert "pgd:eps=" in done.output
    assert load_model(tmp_path / "out", trust=True).sigma == 0.1  # type: ignore[union-attr]
