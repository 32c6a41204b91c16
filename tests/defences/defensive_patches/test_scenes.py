"""What lies between a patch and its picture: each image draws for itself, and gradients find their way back."""

from __future__ import annotations

import pytest
import torch

from vallum.defences.defensive_patches.scenes import SCENES, Outdoors, Scenes, scenes
from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import parameters

GEOMETRY = ("shift", "rotation", "scale", "perspective")
PHOTOMETRY = [one.name for one in parameters(Scenes) if one.name not in GEOMETRY]


def images(count: int = 6) -> torch.Tensor:
    return Draws(1, range(count)).uniform(3, 24, 24, purpose="images")


def strong(name: str) -> Scenes:
    return Scenes(**{name: {"rain": 0.99, "snow": 0.99}.get(name, getattr(Outdoors(), name))})


def test_nothing_happens_unless_it_is_asked_for() -> None:
    here = images()
    assert scenes("plain").seen(here, Draws(0, range(6))) is here
    assert scenes("none").placed(Draws(0, range(6)), here) is None
    assert all(scenes(name).spec == name for name in SCENES)


@pytest.mark.parametrize("name", PHOTOMETRY)
def test_each_effect_is_in_range_its_own_and_differentiable(name: str) -> None:
    here, draws, scene = images().requires_grad_(), Draws(4, range(6)), strong(name)
    seen = scene.seen(here, draws)
    assert float(seen.detach().min()) >= 0
    assert float(seen.detach().max()) <= 1
    changed = (seen - here).abs().flatten(1).amax(1) > 1e-3
    assert int(changed.sum()) >= (1 if name in ("motion", "jpeg") else 5)
    (gradient,) = torch.autograd.grad((seen * torch.linspace(0.5, 1, 24)).sum(), here)
    assert bool(gradient.isfinite().all())
    assert float((gradient != 0).double().mean()) > 0.5


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_are_finite_on_even_pictures(level: float) -> None:
    here = torch.full((24, 3, 24, 24), level, requires_grad=True)
    (gradient,) = torch.autograd.grad(Outdoors(rain=0.5, snow=0.5).seen(here, Draws(0, range(24))).sum(), here)
    assert bool(gradient.isfinite().all())


def test_an_image_meets_the_same_in_any_batch_and_order() -> None:
    here, scene = images(12), Outdoors(rain=0.5, snow=0.5)
    whole, placed = scene.seen(here, Draws(4, range(12))), scene.placed(Draws(4, range(12)), here)
    assert placed is not None
    order = torch.tensor([7, 2, 11])
    part = scene.seen(here[order], Draws(4, order))
    torch.testing.assert_close(part, whole[order], atol=1e-6, rtol=0)
    again = scene.placed(Draws(4, order), here[order])
    assert again is not None
    assert torch.equal(again, placed[order])
    assert float((scene.seen(here, Draws(5, range(12))) - whole).abs().max()) > 0.1


def test_it_does_not_touch_the_generator_of_others() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Outdoors(rain=0.9, snow=0.9).seen(images(), Draws(0, range(6)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "spec", ["plain:light=1", "plain:scale=0.5", "plain:jpeg=101", "plain:blur=-1", "plain:haze=1"]
)
def test_what_cannot_be_is_refused(spec: str) -> None:
    with pytest.raises(UserError):
        scenes(f"plain:{spec}")


def test_a_placement_stays_within_what_was_said() -> None:
    draws, here = Draws(0, range(200)), torch.zeros(200, 3, 32, 32)
    shifted = Scenes(shift=2).placed(draws, here)
    assert shifted is not None
    assert 1.9 < float(shifted[:, :2, 2].abs().max()) <= 2
    turned = Scenes(rotation=30, scale=1.5).placed(draws, here)
    assert turned is not None
    scale = turned[:, :2, :2].det().sqrt()
    assert 1 / 1.5 - 1e-5 <= float(scale.min()) < 0.7 < 1.4 < float(scale.max()) <= 1.5 + 1e-5
    degrees = torch.rad2deg(torch.atan2(turned[:, 1, 0], turned[:, 0, 0])).abs()
    assert 29 < float(degrees.max()) <= 30 + 1e-4
