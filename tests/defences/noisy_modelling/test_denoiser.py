"""The network: what it sees, what is hidden from it, what its losses are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from noisy_toys import ENCODER, Slopes, untrained

from vallum.defences import De3
from vallum.defences.noisy_modelling.denoiser import Denoiser, patched, unpatched
from vallum.defences.noisy_modelling.encoders import encoder_for, make_encoder, tokens
from vallum.defences.noisy_modelling.noise import add_noise
from vallum.errors import UserError
from vallum.images import Draws
from vallum.models import load_model
from vallum.models.nets import MEAN, STD

WITH_CLASS_TOKEN = "timm:vit_tiny_patch16_224?img_size=8&patch_size=4&embed_dim=32&depth=1&num_heads=2"
REGISTERS = WITH_CLASS_TOKEN + "&reg_tokens=3&no_embed_class=true"


def made(decoder: Any = "transformer", target: Any = "pixels", encoder: str = ENCODER) -> Denoiser:
    torch.manual_seed(0)
    layout = {"width": 32, "depth": 1, "heads": 2} if decoder == "transformer" else {}
    return Denoiser(make_encoder(encoder), decoder, target, **layout).eval()


def images(n: int = 4) -> torch.Tensor:
    return Slopes(n).batch(range(n)).images


@pytest.mark.parametrize(("size", "patch"), [((8, 8), (2, 2)), ((12, 8), (4, 2)), ((6, 9), (3, 3))])
def test_patches_put_together_are_the_image(size: tuple[int, int], patch: tuple[int, int]) -> None:
    whole = torch.rand(2, 3, *size)
    grid = size[0] // patch[0], size[1] // patch[1]
    parts = patched(whole, patch)
    assert parts.shape == (2, grid[0] * grid[1], 3 * patch[0] * patch[1])
    assert torch.equal(parts[1, 1].view(3, *patch), whole[1, :, : patch[0], patch[1] : 2 * patch[1]])
    assert torch.equal(unpatched(parts, grid, patch), whole)


@pytest.mark.parametrize("encoder", [ENCODER, WITH_CLASS_TOKEN, REGISTERS])
def test_any_transformer_of_timm_gives_one_token_per_patch(encoder: str) -> None:
    denoiser = made(encoder=encoder)
    assert tokens(denoiser.encoder, images()).shape == (4, denoiser.grid[0] * denoiser.grid[1], 32)
    assert denoiser(images()).shape == (4, 3, 8, 8)
    nothing = torch.zeros(4, denoiser.grid[0] * denoiser.grid[1], dtype=torch.bool)
    whole = tokens(denoiser.encoder, images())
    for stand_in in (None, torch.zeros(32)):  # with nothing hidden, both ways of hiding are no hiding
        assert torch.allclose(tokens(denoiser.encoder, images(), nothing, stand_in), whole, atol=1e-6)


def test_an_encoder_fits_the_model_that_it_is_for() -> None:
    torch.manual_seed(0)
    shape = torch.zeros(1, 3, 32, 32)
    own = encoder_for(load_model("net:vit?classes=43&size=32"), shape)
    assert make_encoder(own).embed_dim == 96
    for height, width, patches in ((32, 32, 64), (64, 192, 192), (224, 224, 196), (30, 45, 150)):
        small = encoder_for(load_model("net:resnet?classes=4"), torch.zeros(1, 3, height, width))
        encoder = make_encoder(small)
        assert encoder.patch_embed.num_patches == patches
        assert Denoiser(encoder).size == (height, width)
    with pytest.raises(UserError, match="no vision transformer"):
        make_encoder("net:resnet")
    with pytest.raises(UserError, match="equal patches"):
        make_encoder("small:?size=97x101")


@pytest.mark.parametrize("decoder", ["transformer", "linear"])
@pytest.mark.parametrize("target", ["pixels", "patch_normalised"])
def test_each_image_is_denoised_alone_and_exactly_from_what_the_loss_sees(decoder: str, target: str) -> None:
    denoiser, clean = made(decoder, target), images()
    noisy = add_noise(clean, 0.2, Draws(0, range(4)))
    with torch.no_grad():
        whole, alone = denoiser(noisy), denoiser(noisy[2:3])
        assert torch.allclose(alone[0], whole[2], atol=1e-5)
        if target == "pixels":
            off = patched((whole - clean) / STD, denoiser.patch)
            assert torch.allclose(denoiser.loss(noisy, clean), off.square().mean((1, 2)), atol=1e-5)
            assert torch.allclose(denoiser.loss(noisy, clean, loss="l1"), off.abs().mean((1, 2)), atol=1e-5)


def test_patch_normalised_targets_are_said_from_the_noisy_image_alone() -> None:
    """The loss is zero where mean, deviation and pattern of each patch are right, and the image is then the image."""
    denoiser, clean = made(target="patch_normalised"), images()
    parts = patched((clean - MEAN) / STD, denoiser.patch)
    mean, std = parts.mean(2, keepdim=True), (parts.var(2, keepdim=True) + 1e-4).sqrt()
    said = torch.cat([(parts - mean) / std, mean, std.log()], 2)
    denoiser._said = lambda noisy, hidden: said  # type: ignore[method-assign]
    assert torch.allclose(denoiser.loss(clean * 0, clean), torch.zeros(4), atol=1e-9)
    assert torch.allclose(denoiser(clean * 0), clean, atol=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.75, 0.99])
def test_the_same_number_is_hidden_of_each_image_by_draws_of_its_own(share: float) -> None:
    denoiser = made()
    hidden = denoiser.hide(share, Draws(0, range(40)))
    assert hidden is not None
    assert hidden.sum(1).tolist() == [min(round(share * 16), 15)] * 40
    assert torch.equal(denoiser.hide(share, Draws(0, [11]))[0], hidden[11])  # type: ignore[index]
    assert bool((hidden.float().mean(0) - share).abs().max() < 0.35)
    assert denoiser.hide(0.0, Draws(0, [0])) is None


@pytest.mark.parametrize("decoder", ["transformer", "linear"])
def test_what_is_hidden_is_not_seen(decoder: str) -> None:
    denoiser, clean = made(decoder), images()
    hidden = denoiser.hide(0.5, Draws(0, range(4)))
    assert hidden is not None
    other = unpatched(
        torch.where(hidden[:, :, None], torch.rand(4, 16, 12), patched(clean, (2, 2))), denoiser.grid, denoiser.patch
    )
    for all_patches in (True, False):
        first, second = (denoiser.loss(seen, clean, hidden, all_patches=all_patches) for seen in (clean, other))
        assert torch.allclose(first, second, atol=1e-6)
    assert not torch.allclose(denoiser.loss(clean, clean), denoiser.loss(other, clean))


def test_a_loss_on_hidden_patches_counts_no_other() -> None:
    denoiser, clean = made(), images()
    hidden = denoiser.hide(0.5, Draws(0, range(4)))
    assert hidden is not None
    said = denoiser._said(clean, hidden)
    off = (said - patched((clean - MEAN) / STD, denoiser.patch)).square().mean(2)
    wanted = torch.stack([row[mask].mean() for row, mask in zip(off, hidden, strict=True)])
    assert torch.allclose(denoiser.loss(clean, clean, hidden, all_patches=False), wanted, atol=1e-6)
    assert torch.allclose(denoiser.loss(clean, clean, hidden), off.mean(1), atol=1e-6)


@pytest.mark.parametrize("sigma", [0.2, 0.4])
def test_it_takes_most_of_the_noise_away_from_images_it_has_not_seen(defence: De3, sigma: float) -> None:
    clean = Slopes(100, start=5000).batch(range(100)).images
    noisy = add_noise(clean, sigma, Draws(0, range(100)))
    with torch.no_grad():
        left = (defence.denoiser(noisy) - clean).square().mean()
        before = (untrained().denoiser(noisy) - clean).square().mean()
    assert left < 0.2 * (noisy - clean).square().mean()
    assert left < 0.2 * before


def test_a_decoder_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a multiple of 4 and of heads"):
        Denoiser(make_encoder(ENCODER), width=30)
