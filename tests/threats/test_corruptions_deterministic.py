"""Corruptions against the code of ImageNet-C, the random ones with the same draws on both sides."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from corruption_references import as_bytes, as_image, corrupt_tta, drawing, imagecorruptions, picture
from torch import Tensor

from vallum.threats import threat
from vallum.threats.corruptions import Corruption
from vallum.threats.corruptions.jpeg import jpeg
from vallum.threats.corruptions.motion import motion_blur
from vallum.threats.corruptions.sampling import middle

IMAGE = picture()
SEVERITIES = (1, 2, 3, 4, 5)
LEVEL = 1 / 255


class Given:
    """Stands for Draws, with the draws that a test chose, by purpose."""

    def __init__(self, **draws: object) -> None:
        self.chosen = {name: torch.as_tensor(np.asarray(draw)) for name, draw in draws.items()}

    def uniform(self, *shape: int, purpose: str, device: object = "cpu") -> Tensor:
        return self.chosen[purpose].clone()  # as the real ones: whoever drew may write on it

    normal = integers = uniform


def altered(name: str, severity: int, draws: Given, strength: tuple[float, ...] | None = None) -> Tensor:
    corruption = threat(f"{name}:{severity}")
    assert isinstance(corruption, Corruption)
    images = IMAGE[None].double()
    chosen = corruption.strength(images) if strength is None else strength
    return corruption.alter(images, draws, chosen).clamp(0, 1)[0]  # type: ignore[arg-type]


def apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs).abs().max())


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "name", ["gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", "pixelate"]
)
@pytest.mark.parametrize("shape", [(224, 224), (64, 192), (32, 32)])
def test_deterministic_ones_agree_to_a_hundredth_of_a_level(name: str, severity: int, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    ours = threat(f"{name}:severity={severity},table=imagenet")(None, image[None], torch.zeros(1))[0]
    theirs = as_image(getattr(corrupt_tta(), name)(as_bytes(image), severity))
    assert apart(ours, theirs) < 0.01 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_agrees_with_a_real_coder(severity: int) -> None:
    ours = threat(f"jpeg:{severity}")(None, IMAGE[None], torch.zeros(1))[0]
    difference = (ours.double() - as_image(corrupt_tta().jpeg_compression(as_bytes(IMAGE), severity))).abs()
    assert (difference < 1.01 * LEVEL).double().mean() > 0.98  # the rest: a frequency rounded the other way
    assert difference.mean() < 0.15 * LEVEL


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 95])
@pytest.mark.parametrize("shape", [(64, 64), (37, 50)])
def test_jpeg_at_any_quality_and_size(quality: int, shape: tuple[int, int]) -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = picture(*shape)
    for pixels in (image, image[:1]):
        file = io.BytesIO()
        array = as_bytes(pixels)
        image_module.fromarray(array[..., 0] if len(pixels) == 1 else array).save(file, "JPEG", quality=quality)
        read = np.asarray(image_module.open(file), dtype=np.float64)
        theirs = as_image(read[..., None] if len(pixels) == 1 else read)
        difference = (jpeg(pixels[None], quality)[0].double() - theirs).abs()
        assert (difference < 2.01 * LEVEL).double().mean() > 0.97
        assert difference.mean() < 0.3 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("degrees", [-45.0, -37.3, 0.0, 12.5])
def test_motion_blur(severity: int, degrees: float) -> None:
    reference = imagecorruptions()
    with drawing(uniform=lambda low, high: degrees):
        theirs = as_image(reference.motion_blur(as_bytes(IMAGE), severity))
    radius, sigma = threat(f"motion:{severity}").strength(IMAGE[None])  # type: ignore[attr-defined]
    ours = motion_blur(IMAGE[None], radius, sigma, np.array([degrees]))[0]
    assert apart(ours, theirs) < 0.01 * LEVEL


def test_motion_longer_than_the_image() -> None:
    small = picture(16, 24)
    reference = imagecorruptions()
    with drawing(uniform=lambda low, high: 30.0):
        theirs = as_image(reference.motion_blur(as_bytes(small), 5))
    assert apart(motion_blur(small[None], 20, 15, np.array([30.0]))[0], theirs) < 0.01 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog(severity: int) -> None:
    wobble = np.random.default_rng(severity).uniform(-1, 1, (256, 256))

    def calls() -> Iterator[np.ndarray]:
        step = 256
        while step >= 2:
            half = step // 2
            yield wobble[half::step, half::step]
            yield wobble[::step, half::step]
            yield wobble[half::step, ::step]
            step = half

    given = calls()
    with drawing(uniform=lambda low, high, shape: high * next(given)):
        theirs = as_image(imagecorruptions().fog(as_bytes(IMAGE), severity))
    assert apart(altered("fog", severity, Given(clouds=(wobble[None] + 1) / 2)), theirs) < 0.01 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur(severity: int) -> None:
    stream = np.random.default_rng(severity)
    reach, rounds = {1: (1, 2), 2: (2, 1), 3: (2, 3), 4: (3, 2), 5: (4, 2)}[severity]
    steps = stream.integers(-reach, reach, (rounds, 2, 224, 224))
    places = [(y, x) for y in range(224 - reach, reach, -1) for x in range(224 - reach, reach, -1)]
    given = (steps[turn, ::-1, y, x] for turn in range(rounds) for y, x in places)
    with drawing(randint=lambda *_, **__: next(given)):
        theirs = as_image(imagecorruptions().glass_blur(as_bytes(IMAGE), severity))
    chances = ((steps[:, 0] + reach) * 2 * reach + steps[:, 1] + reach + 0.5) / (2 * reach) ** 2
    ours = altered("glass", severity, Given(**{f"round {turn}": chances[turn][None] for turn in range(rounds)}))
    # Both cast to bytes in between; where a value is whole, rounding error decides which way it falls.
    assert apart(ours, theirs) < 1.5 * LEVEL
    assert (ours - theirs).abs().mean() < 0.05 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("degrees", [-135.0, -90.0, -46.0])
@pytest.mark.parametrize("as_packaged", [False, True])
def test_snow(severity: int, degrees: float, as_packaged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two steps of ImageNet-C put back that the package leaves out: flakes trimmed to the image, cut to bytes.

    As packaged, the flakes are blurred with one row and column more, which show on the two edges that streaks enter by.
    """
    reference = imagecorruptions()
    uncut, uneven = reference.clipped_zoom, reference._motion_blur
    if not as_packaged:
        monkeypatch.setattr(reference, "clipped_zoom", lambda layer, size: uncut(layer, size)[:224, :224])
        monkeypatch.setattr(
            reference, "_motion_blur", lambda layer, **path: uneven(np.floor(layer * 255 + 1e-3) / 255, **path)
        )
    flakes = np.random.default_rng(severity).standard_normal((224, 224))
    with drawing(normal=lambda size, loc, scale: loc + scale * flakes, uniform=lambda low, high: degrees):
        theirs = as_image(reference.snow(as_bytes(IMAGE), severity))
    size = threat(f"snow:{severity}").strength(IMAGE[None])[2]  # type: ignore[attr-defined]
    few = middle(224, size)
    seen = slice((224 - few) // 2, (224 - few) // 2 + few)
    ours = altered("snow", severity, Given(flakes=flakes[None, None, seen, seen], angle=[[(degrees + 135) / 90]]))
    if not as_packaged:
        assert apart(ours, theirs) < 0.01 * LEVEL
    else:
        inner = ours[:, 25:-25, 25:-25], theirs[:, 25:-25, 25:-25]  # paths are 25 steps long at most
        assert apart(*inner) < 2.5 * LEVEL
        assert (inner[0] - inner[1]).abs().mean() < 0.1 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter(severity: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    drops = np.random.default_rng(severity).standard_normal((224, 224))
    with drawing(normal=lambda size, loc, scale: loc + scale * drops):
        theirs = as_image(imagecorruptions().spatter(image_module.fromarray(as_bytes(IMAGE)), severity))
    assert apart(altered("spatter", severity, Given(drops=drops[None, None])), theirs) < 0.01 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_transform(severity: int) -> None:
    stream = np.random.default_rng(severity)
    # The package has 224 where ImageNet-C had 244.
    ours = threat(f"elastic:{severity}").strength(IMAGE[None])  # type: ignore[attr-defined]
    strength = tuple(value * 224 / 244 for value in ours)
    corners, moves = stream.uniform(-1, 1, (3, 2)), stream.uniform(-1, 1, (2, 224, 224))
    given = iter([corners * strength[2], *moves])
    with drawing(uniform=lambda *_, **__: next(given)):
        theirs = as_image(corrupt_tta().elastic_transform(as_bytes(IMAGE), severity))
    draws = Given(corners=(corners[None] + 1) / 2, moves=(moves[None] + 1) / 2)
    assert apart(altered("elastic", severity, draws, strength), theirs) < 0.05 * LEVEL


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_blends_as_the_reference(severity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from vallum.threats.corruptions import frost

    reference = corrupt_tta()
    photograph = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    monkeypatch.setattr(reference.cv2, "imread", lambda path: photograph.numpy()[..., ::-1])
    monkeypatch.setattr(frost, "_panes", lambda scale: photograph.permute(2, 0, 1)[None] / 255)
    with drawing(randint=lambda low, high: 0):
        theirs = as_image(reference.frost(as_bytes(IMAGE), severity))
    assert apart(altered("frost", severity, Given(pane=[[0]], place=[[0, 0]])), theirs) < 0.01 * LEVEL
