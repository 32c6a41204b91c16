"""Noise against what its name says: its moments, its signal-to-noise ratio, its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from corruption_references import picture
from scipy import stats

from vallum.errors import UserError
from vallum.threats import THREATS, threat
from vallum.threats.energy import realised_rms, realised_snr
from vallum.threats.noise import Noise
from vallum.threats.sensor import from_light, to_light

GREY = torch.full((2, 3, 96, 96), 0.5)
NOISES = ("gaussian", "uniform", "speckle", "salt_pepper")


def noise_of(spec: str, images: torch.Tensor = GREY) -> torch.Tensor:
    return threat(spec)(None, images, torch.zeros(len(images))) - images


@pytest.mark.parametrize(
    ("spec", "law"),
    [
        ("gaussian:std=0.1", stats.norm(scale=0.1)),
        ("uniform:width=0.2", stats.uniform(-0.2, 0.4)),
        ("speckle:std=0.2", stats.norm(scale=0.1)),
    ],
)
def test_laws(spec: str, law: stats.rv_continuous) -> None:
    assert stats.kstest(noise_of(spec).flatten().double().numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("spec", ["gaussian:std=25", "uniform:width=8", "speckle:std=1.5", "gaussian:std=25+fog:3"])
def test_a_strength_in_units_of_0_to_255_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match=r"images are in \[0, 1\]; write (std|width)=[0-9.]+/255"):
        threat(spec)


def test_speckle_is_in_proportion() -> None:
    ramp = torch.linspace(0.1, 0.5, 64).expand(1, 1, 4000, 64)
    assert torch.allclose(noise_of("speckle:std=0.3", ramp).std(2) / 0.3, ramp[:, :, 0], rtol=0.06)


def test_salt_and_pepper() -> None:
    images = torch.rand(2, 3, 200, 200) * 0.8 + 0.1
    changed = threat("salt_pepper:amount=0.2")(None, images, torch.zeros(2))
    white, black = (changed == 1).all(1), (changed == 0).all(1)
    assert torch.equal(changed, torch.where(white[:, None], 1.0, torch.where(black[:, None], 0.0, images)))
    for count in (int(white.sum()), int(black.sum())):
        assert stats.binomtest(count, white.numel(), 0.1).pvalue > 1e-3
    more = threat("salt_pepper:amount=0.3")(None, images, torch.zeros(2))
    assert torch.equal(more[changed != images], changed[changed != images])  # what was hit stays as it was hit


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("snr", [15.0, 25.0])
def test_signal_to_noise_ratio(name: str, snr: float) -> None:
    images = torch.stack([picture(96, 96, seed) * 0.3 + 0.3 for seed in range(3)])
    changed = threat(f"{name}:snr={snr}")(None, images, torch.zeros(3))
    assert realised_snr(images, changed).tolist() == pytest.approx(
        [snr] * 3, abs=2.5 if name == "salt_pepper" else 0.25
    )


@pytest.mark.parametrize("name", NOISES)
def test_one_strength_and_a_sensible_one(name: str) -> None:
    kind = THREATS[name]
    assert issubclass(kind, Noise)  # type: ignore[arg-type]
    strength = kind.strength_is  # type: ignore[attr-defined]
    for spec in (name, f"{name}:{strength}=0.1,snr=3"):
        with pytest.raises(UserError, match=f"{strength} or snr"):
            threat(spec)
    with pytest.raises(UserError, match="not negative"):
        threat(f"{name}:{strength}=-0.1")
    per_image = kind(**{strength: torch.tensor([0.0, 0.2])})(None, GREY, torch.zeros(2))  # type: ignore[call-arg]
    assert torch.equal(per_image[0], GREY[0])
    assert torch.equal(per_image[1], threat(f"{name}:{strength}=0.2")(None, GREY, torch.zeros(2))[1])


@pytest.mark.parametrize("spec", ["gaussian:std=0.1", "uniform:width=0.1", "speckle:std=0.1", "poisson_gaussian"])
def test_gradient(spec: str) -> None:
    images = GREY[:, :, :8, :8].clone().requires_grad_()
    threat(spec)(None, images, torch.zeros(2)).sum().backward()
    assert images.grad is not None
    assert float(images.grad.mean()) == pytest.approx(1.0, abs=0.05)


class TestSensor:
    @pytest.mark.parametrize("value", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize(("electrons", "read"), [(500.0, 0.0), (2000.0, 20.0)])
    def test_variance_is_that_of_light_and_amplifier(self, value: float, electrons: float, read: float) -> None:
        images = torch.full((1, 1, 200, 200), value, dtype=torch.float64)
        spec = f"poisson_gaussian:electrons={electrons},read={read}"
        counts = to_light(threat(spec)(None, images, torch.zeros(1)).numpy()) * electrons
        mean = float(to_light(np.array(value))) * electrons
        if mean > 4 * math.sqrt(mean + read**2):  # nothing is clamped
            assert counts.mean() == pytest.approx(mean, abs=5 * math.sqrt((mean + read**2) / counts.size))
            assert counts.var() == pytest.approx(mean + read**2, rel=0.04)

    def test_light_and_back(self) -> None:
        values = np.linspace(0, 1, 101)
        assert np.allclose(from_light(to_light(values)), values)
        assert to_light(np.array(0.5)) == pytest.approx(0.2140, abs=1e-4)

    def test_each_image_stands_alone(self) -> None:
        images = torch.stack([picture(24, 24, seed) for seed in range(3)])
        one = threat("poisson_gaussian:electrons=300")
        together = one(None, images, torch.zeros(3), [4, 5, 6])
        assert torch.equal(together[1], one(None, images[1:2], torch.zeros(1), [5])[0])
        assert float(realised_rms(images, together).min()) > 0.01


@pytest.mark.parametrize("name", NOISES)
def test_each_image_stands_alone_bit_for_bit(name: str) -> None:
    images = torch.stack([picture(17, 23, seed) for seed in range(5)])
    one = threat(f"{name}:{THREATS[name].strength_is}=0.1")  # type: ignore[attr-defined]
    together = one(None, images, torch.zeros(5), [9, 2, 5, 7, 1])
    assert torch.equal(together[3], one(None, images[3:4], torch.zeros(1), [7])[0])
