"""Equal energy means equal: to rounding, after clamping, for each image."""

from __future__ import annotations

import pytest
import torch
from corruption_references import picture
from torch import Tensor, nn

from vallum.errors import UserError
from vallum.threats import EqualEnergy, Gaussian, threat
from vallum.threats.energy import realised_rms, realised_snr, scaled

IMAGES = torch.stack([picture(24, 32, seed) for seed in range(4)])
LABELS = torch.tensor([0, 1, 2, 0])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3 * 24 * 32, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


THREATS = [
    "gaussian",
    "uniform",
    "speckle",
    "gaussian:seed=4",
    "poisson_gaussian:electrons=50",
    "fog:2",
    "fog:2+jpeg:3",
    "motion:5",
    "pgd:norm=2,steps=3",
    "pgd:steps=3,early_stop=false",
    "pgd:norm=1,steps=3",
    "random_search:queries=5",
]


@pytest.mark.parametrize("of", THREATS)
@pytest.mark.parametrize("energy", [{"rms": 0.03}, {"rms": 0.15}, {"snr": 20.0}])
def test_exact_after_clamping(of: str, energy: dict[str, float]) -> None:
    changed = EqualEnergy(f"({of})", **energy)(Net(), IMAGES, LABELS)  # type: ignore[arg-type]
    assert bool(((changed >= 0) & (changed <= 1)).all())
    if "rms" in energy:
        assert realised_rms(IMAGES, changed).tolist() == pytest.approx([energy["rms"]] * 4, rel=2e-5)
    else:
        assert realised_snr(IMAGES, changed).tolist() == pytest.approx([20.0] * 4, abs=2e-4)


def test_salt_and_pepper_to_within_a_pixel() -> None:
    changed = threat("equal_energy:of=(salt_pepper),rms=0.1")(None, IMAGES, LABELS)
    pixel = 1 / (24 * 32)  # the most that one pixel adds to the mean square
    assert bool(((realised_rms(IMAGES, changed) ** 2 - 0.1**2).abs() <= pixel).all())
    hit = (changed != IMAGES).any(1)
    assert set(changed.movedim(1, -1)[hit].unique().tolist()) == {0.0, 1.0}


def test_noise_keeps_its_draw() -> None:
    """Where nothing is clamped, gaussian noise of this energy is the same draw at another strength."""
    grey = torch.full((2, 3, 32, 32), 0.5)
    one = EqualEnergy("(gaussian:seed=7)", rms=0.02)(None, grey, LABELS[:2]) - grey
    other = Gaussian(std=0.02, seed=7)(None, grey, LABELS[:2]) - grey
    for moved, drawn in zip(one, other, strict=True):
        assert torch.allclose(moved / moved.std(), drawn / drawn.std(), atol=1e-4)


def test_the_scaled_change_lies_on_its_line() -> None:
    changed = (IMAGES + 0.2 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    rms = torch.tensor([0.01, 0.05, 0.1, 0.15])
    moved = scaled(IMAGES, changed, rms)
    for image, far, near in zip(IMAGES, changed, moved, strict=True):
        free = (near > 0) & (near < 1) & ((far - image).abs() > 0.05)
        ratios = (near - image)[free] / (far - image)[free]
        assert float(ratios.std() / ratios.mean()) < 1e-3


def test_attack_beats_noise_of_the_same_energy() -> None:
    """On a linear model the attack of an energy is the steepest direction, in closed form; noise is not."""
    net = Net()
    images = IMAGES * 0.2 + 0.4
    gradient = torch.stack([net.weight[(label + 1) % 3] - net.weight[label] for label in LABELS]).view_as(images)
    attack = EqualEnergy("(pgd:norm=2,steps=5,loss=margin,early_stop=false)", rms=0.01)(net, images, LABELS)
    noise = EqualEnergy("(gaussian)", rms=0.01)(net, images, LABELS)
    best = (gradient.flatten(1).norm(dim=1) * 0.01 * images[0].numel() ** 0.5).tolist()
    gained = ((attack - images) * gradient).flatten(1).sum(1)
    lost = ((noise - images) * gradient).flatten(1).sum(1)
    assert bool((gained > 5 * lost.abs()).all())
    assert all(gain <= bound * 1.001 for gain, bound in zip(gained.tolist(), best, strict=True))


WRONG_ALREADY = [
    "strong:effort=0.1",
    "strong:norm=2,effort=0.1",
    "apgd_targeted:steps=3",
    "ddn:steps=4",
    "fmn:steps=4",
    "pgd:random_start=false,steps=3",
    "pgd:norm=1,random_start=false,steps=3",
]


@pytest.mark.parametrize("of", WRONG_ALREADY)
def test_an_image_that_is_wrong_already_may_stay_as_it_is(of: str) -> None:
    """It counts as fallen as it is; its neighbours get the energy that was asked for."""
    net = Net()
    labels = net(IMAGES).argmax(1)
    labels[2] = (labels[2] + 1) % 3
    one = EqualEnergy(f"({of})", rms=0.02)
    changed = one(net, IMAGES, labels)
    alone = threat(f"{of},eps=0.02" if "eps" in dir(one.inner) else of)(net, IMAGES, labels)
    assert torch.equal(alone[2], IMAGES[2]), "it was to be given back as it was"
    assert torch.equal(changed[2], IMAGES[2])
    others = [0, 1, 3]
    assert realised_rms(IMAGES, changed)[others].tolist() == pytest.approx([0.02] * 3, rel=2e-5)


def test_what_leaves_an_image_as_it_is_without_being_an_attack_cannot_reach_an_energy() -> None:
    with pytest.raises(UserError, match="cannot be changed"):
        EqualEnergy("(brightness:2)", rms=0.02)(None, torch.ones(1, 3, 8, 8), LABELS[:1])


def test_spec_round_trip() -> None:
    for spec in ("equal_energy:of=(pgd:norm=2,steps=5),snr=30", "equal_energy:of=(fog:3+jpeg:2),rms=0.1,seed=2"):
        assert threat(spec).spec == spec
        assert threat(threat(spec).spec) == threat(spec)
    assert threat("equal_energy:of=(pgd),rms=0.1").kind == "attack"
    assert threat("equal_energy:of=(pgd),rms=0.1").needs_gradient
    assert threat("equal_energy:of=(fog:3),rms=0.1").kind == "corruption"


def test_seeds_differ() -> None:
    one, other = (threat(f"equal_energy:of=(gaussian),rms=0.1,seed={seed}")(None, IMAGES, LABELS) for seed in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("equal_energy:of=(gaussian)", "rms or snr"),
        ("equal_energy:of=(gaussian),rms=0.1,snr=3", "rms or snr"),
        ("equal_energy:of=(gaussian:std=0.1),rms=0.1", "gives a strength"),
        ("equal_energy:of=(pgd:eps=0.1),rms=0.1", "gives eps"),
        ("equal_energy:of=(nothing_known),rms=0.1", "no threat is called"),
        ("equal_energy:of=(gaussian),rms=2", "between 0 and 1"),
        ("equal_energy:of=(pgd:norm=0),rms=0.1", "a radius in norm 0.*inf, 2, 1"),
    ],
)
def test_mistakes(spec: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        threat(spec)


def test_what_cannot_be_reached() -> None:
    with pytest.raises(UserError, match="ask for less"):
        threat("equal_energy:of=(speckle),rms=0.9")(None, torch.full((1, 3, 8, 8), 0.1), LABELS[:1])
    with pytest.raises(UserError, match="ask for less"):
        threat("equal_energy:of=(brightness:1),rms=0.5")(None, torch.full((1, 3, 8, 8), 0.9), LABELS[:1])
