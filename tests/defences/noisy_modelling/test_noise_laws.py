"""Laws of the noise, against their moments; the noise itself, per pixel, un-clipped, each image alone."""

from __future__ import annotations

from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vallum.defences.noisy_modelling.noise import LAWS, PRESETS, Fixed, Gamma, add_noise, noise_law
from vallum.errors import UserError
from vallum.images import Draws


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("0.3", 0.3, 0.0),
        ("uniform(0.1,0.5)", 0.3, 0.4 / 12**0.5),
        ("gamma(25,3/255)", 75 / 255, 15 / 255),
        ("lognormal(0.2,0.5)", 0.2 * exp(0.125), 0.2 * (exp(0.25) * (exp(0.25) - 1)) ** 0.5),
    ],
)
def test_moments(text: str, mean: float, std: float) -> None:
    drawn = noise_law(text).draw(Draws(0, range(6000)))
    assert drawn.shape == (6000,)
    assert float(drawn.mean()) == pytest.approx(mean, abs=4 * std / 6000**0.5 + 1e-6)
    assert float(drawn.std()) == pytest.approx(std, rel=0.05, abs=1e-6)


def test_the_papers_gamma_has_mean_75_and_deviation_15() -> None:
    drawn = PRESETS["paper"].draw(Draws(1, range(6000))) * 255
    assert abs(float(drawn.mean()) - 75) < 1
    assert abs(float(drawn.std()) - 15) < 1


@pytest.mark.parametrize("name", LAWS)
def test_what_an_image_draws_does_not_hang_on_its_batch(name: str) -> None:
    law = noise_law({"fixed": "0.2"}.get(name, f"{name}(0.5,0.7)"))
    whole = law.draw(Draws(0, range(10)))
    assert torch.equal(law.draw(Draws(0, [7, 3])), whole[[7, 3]])
    assert noise_law(str(law)) == law


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 40), st.floats(0.0001, 1))
def test_the_text_of_a_law_makes_it_again(shape: float, scale: float) -> None:
    assert noise_law(str(Gamma(shape, scale))) == Gamma(shape, scale)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gama(25,3/255)", "did you mean gamma"),
        ("gamma(25)", "gamma\\(shape, scale\\)"),
        ("gamma(25,3", "no law of noise"),
        ("uniform(0,x)", "a number"),
        ("75", "75/255"),
        ("-0.1", "not negative"),
        ("papier", "did you mean paper"),
    ],
)
def test_texts_that_name_no_law(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        noise_law(text)


def test_noise_has_the_deviation_of_each_image_in_every_channel_and_is_not_clipped() -> None:
    images = torch.full((3, 3, 64, 64), 0.9)
    sigma = torch.tensor([0.0, 0.1, 0.5])
    noisy = add_noise(images, sigma, Draws(0, range(3)))
    assert torch.equal(noisy[0], images[0])
    for row in (1, 2):
        off = (noisy - images)[row].flatten(1)  # (3, 4096)
        assert torch.allclose(off.std(1), sigma[row].expand(3), rtol=0.06)
        assert bool((off.mean(1).abs() < 4 * sigma[row] / 64).all())
    assert float(noisy[2].max()) > 1.5
    alone = add_noise(images[2:], 0.5, Draws(0, [2]))
    assert torch.equal(alone[0], noisy[2])
    assert Fixed(0.5).draw(Draws(0, [1])).tolist() == [0.5]
