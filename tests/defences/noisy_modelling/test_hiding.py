"""Masked modelling as a defence, to compare noise with: patches are hidden when it is used, and guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from noisy_toys import SMALL, Shrinks, Slopes, convolutional, linear, untrained

import vallum
from vallum.defences import De3
from vallum.defences.chance import drawing
from vallum.defences.noisy_modelling.certificate import certify
from vallum.defences.noisy_modelling.denoiser import patched
from vallum.errors import UserError

IMAGES = Slopes(6, start=3000).batch(range(6)).images


def seen_by_the_model(defence: De3, images: torch.Tensor, number: int = 0) -> torch.Tensor:
    with drawing(seed=1, numbers=number), torch.no_grad():
        return defence.purify(images)


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_the_patches_that_are_seen_stay_as_they_are_where_only_the_hidden_were_learnt(share: float) -> None:
    defence = untrained(mask=0.5, hide=share, sigma=0.0)
    defence.denoiser.learnt_from = "hidden"
    same = torch.isclose(patched(seen_by_the_model(defence, IMAGES), (2, 2)), patched(IMAGES, (2, 2)), atol=1e-5)
    assert same.all(2).sum(1).tolist() == [16 - round(16 * share)] * len(IMAGES)
    defence.denoiser.learnt_from = "all"
    every = seen_by_the_model(defence, IMAGES)
    assert not torch.isclose(patched(every, (2, 2)), patched(IMAGES, (2, 2)), atol=1e-5).all(2).any()


def test_what_is_hidden_has_no_say() -> None:
    defence, images = untrained(mask=0.5, hide=0.5, sigma=0.0), IMAGES.clone().requires_grad_()
    with drawing(seed=1, numbers=0):
        found = defence.purify(images)
    (gradient,) = torch.autograd.grad(found.square().sum(), images)
    blind = patched(gradient, (2, 2)).abs().sum(2) == 0  # (N, L)
    assert blind.sum(1).tolist() == [8] * len(images)


def test_each_image_draws_its_own_patches_anew_for_each_answer_whatever_its_batch() -> None:
    defence = untrained(mask=0.5, hide=0.5, sigma=0.1, draws=3, answer="mean")
    assert defence.randomised
    with torch.no_grad():
        whole = defence(IMAGES)
        for one in range(len(IMAGES)):
            assert torch.allclose(defence(IMAGES[one : one + 1])[0], whole[one], atol=1e-5)
    single = defence.tuned(draws=1, sigma=0.0)
    assert not torch.equal(seen_by_the_model(single, IMAGES, 0), seen_by_the_model(single, IMAGES, 1))


def test_it_is_attacked_over_draws_of_patches_and_proves_nothing() -> None:
    defence = untrained(mask=0.5, hide=0.5, sigma=0.0)
    assert {"direct", "expectation", "low frequency"} <= {surface.name for surface in defence.attack_surfaces()}
    with pytest.raises(UserError, match="hide"):
        certify(defence.tuned(sigma=0.2), IMAGES[0])


def test_it_is_hardened_kept_and_tuned(tmp_path: Path) -> None:
    recipe = f"noisy_modelling:noise=0,mask=0.75,loss_on=hidden,sigma=0,hide=0.75,{SMALL}"
    vallum.harden(
        convolutional(), Slopes(64), recipe, out=tmp_path / "masks", epochs=1, batch_size=32, validation=0, quiet=True,
        checkpoint_every=0, shift=0.0, colour=0.0, robust_images=0,
    )  # fmt: skip
    again = vallum.load_model(tmp_path / "masks")
    assert isinstance(again, De3)
    assert (again.hide, again.sigma, again.denoiser.learnt_from) == (0.75, 0.0, "hidden")
    assert torch.equal(again.tuned(hide=0.0)(IMAGES), again.model(IMAGES))


@pytest.mark.parametrize("made", [lambda: untrained(mask=0.5, hide=1.0), lambda: De3(linear(), Shrinks(), hide=0.5)])
def test_what_cannot_be_hidden(made: object) -> None:
    with pytest.raises(UserError, match=r"hide|hidden"):
        made()  # type: ignore[operator]
