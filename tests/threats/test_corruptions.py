"""What every corruption promises, whatever it does; new ones are tested by being registered."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from corruption_references import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from vallum.errors import UserError
from vallum.images import Draws
from vallum.threats import THREATS, threat
from vallum.threats.corruptions import (
    ALEXNET,
    ALL,
    BENCHMARK,
    Corruption,
    defocus_by_depth,
    fog_by_depth,
    mce,
    relative_mce,
)
from vallum.threats.corruptions.filters import correlate, gaussian_blur, inside
from vallum.threats.corruptions.glass import scattered
from vallum.threats.corruptions.poisson import poisson

NOTHING = torch.zeros(4)
DETERMINISTIC = ("gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", "pixelate")
SMOOTH = ("gaussian_noise", "speckle_noise", "gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "contrast")


def batch(height: int = 40, width: int = 56) -> torch.Tensor:
    return torch.stack([picture(height, width, seed) for seed in range(4)])


def test_all_are_registered() -> None:
    registered = {name for name in THREATS if issubclass(THREATS[name], Corruption)}  # type: ignore[arg-type]
    assert registered == set(ALL)
    assert len(ALL) == 19
    assert len(BENCHMARK) == 15


@pytest.mark.parametrize("name", ALL)
class TestEach:
    @pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 192), (1, 40, 33), (3, 9, 14)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
    def test_any_size_and_precision(self, name: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        images = torch.rand(2, *shape).to(dtype)
        for severity in (1, 3, 5):
            changed = threat(f"{name}:{severity}")(None, images, NOTHING[:2])
            assert changed.shape == images.shape
            assert changed.dtype == dtype
            assert bool(((changed >= 0) & (changed <= 1)).all())

    def test_each_image_stands_alone(self, name: str) -> None:
        images, one = batch(), threat(f"{name}:4")
        together = one(None, images, NOTHING, [7, 3, 11, 5])
        for place, key in ((2, 11), (0, 7)):
            alone = one(None, images[place : place + 1], NOTHING[:1], [key])[0]
            difference = (together[place] - alone).abs()
            assert float(difference.max()) < 1.5 / 255  # a step of eight bits where rounding error decides
            assert float(difference.mean()) < 1e-5

    def test_memory_layout_does_not_matter(self, name: str) -> None:
        images, one = batch(), threat(f"{name}:3")
        assert torch.equal(
            one(None, images.contiguous(memory_format=torch.channels_last), NOTHING), one(None, images, NOTHING)
        )

    def test_nothing_given_is_written_on(self, name: str) -> None:
        images = batch()
        before = images.clone()
        changed = threat(f"{name}:3")(None, images, NOTHING)
        assert torch.equal(images, before)
        assert changed.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()
        tracked = before.clone().requires_grad_()
        assert torch.allclose(threat(f"{name}:3")(None, tracked, NOTHING), changed, atol=1.5 / 255)
        assert torch.equal(tracked, before)

    def test_keys_and_seeds_decide_what_is_drawn(self, name: str) -> None:
        images = picture(40, 56).expand(2, -1, -1, -1)
        changed = threat(f"{name}:3")(None, images, NOTHING[:2], [1, 2])
        again = threat(f"{name}:3")(None, images, NOTHING[:2], [1, 2])
        other = threat(f"{name}:3,seed=1")(None, images, NOTHING[:2], [1, 2])
        assert torch.equal(changed, again)
        draws = name not in (*DETERMINISTIC, "jpeg_compression")
        assert torch.allclose(changed[0], changed[1], atol=1e-5) != draws
        assert torch.allclose(changed, other, atol=1e-5) != draws

    def test_fractions_lie_between_the_five(self, name: str) -> None:
        corruption = THREATS[name](severity=2.25, table="imagenet")
        rows = corruption.strengths.imagenet  # type: ignore[attr-defined]
        for low, high, between in zip(rows[1], rows[2], corruption.strength(batch()), strict=True):  # type: ignore[attr-defined]
            assert between == pytest.approx(0.75 * low + 0.25 * high)
        for severity in range(1, 6):
            assert threat(f"{name}:{severity},table=imagenet").strength(batch()) == rows[severity - 1]  # type: ignore[attr-defined]

    def test_spec_round_trip(self, name: str) -> None:
        for severity, text in ((1, "1"), (2.5, "2.5"), (7 / 3, "7/3"), (1.1 + 2.2, "3.3000000000000003")):
            one = THREATS[name](severity=severity, table="cifar", seed=3)
            assert one.spec == f"{name}:{text},table=cifar,seed=3"
            assert threat(one.spec) == one
        assert threat(f"{name}:severity=3").spec == threat(f"{name}:3").spec == f"{name}:3"
        both = threat(f"{name}:2.5,seed=4+jpeg:10/3+{name}:1")
        assert threat(both.spec) == both
        assert both.spec == f"{name}:2.5,seed=4+jpeg_compression:10/3+{name}:1"

    def test_gradient_reaches_the_image(self, name: str) -> None:
        images = (batch()[:1] * 0.4 + 0.2).requires_grad_()
        threat(f"{name}:1")(None, images, NOTHING[:1]).sum().backward()
        assert images.grad is not None
        assert bool(torch.isfinite(images.grad).all())
        assert float((images.grad != 0).double().mean()) > 0.5

    def test_severity_is_checked(self, name: str) -> None:
        for severity in ("0", "5.5", "-1"):
            with pytest.raises(UserError, match="between 1 and 5"):
                threat(f"{name}:{severity}")


@pytest.mark.parametrize("name", [*SMOOTH, "fog", "brightness", "saturate", "snow", "frost"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    stream = torch.Generator().manual_seed(0)
    images = (torch.rand(1, 3, 6, 7, generator=stream, dtype=torch.float64) * 0.3 + 0.35).requires_grad_()
    corruption = threat(f"{name}:1,table=cifar")
    assert isinstance(corruption, Corruption)
    draws, strength = Draws(0, [0]), corruption.strength(images)
    assert torch.autograd.gradcheck(lambda x: corruption.alter(x, draws, strength), images, atol=1e-5)


def test_tables_follow_the_size() -> None:
    fog = threat("fog:1")
    assert isinstance(fog, Corruption)
    for side, density in ((32, 0.2), (64, 0.4), (224, 1.5)):
        assert fog.strength(torch.zeros(1, 3, side, 2 * side))[0] == density


def test_four_channels_are_refused() -> None:
    with pytest.raises(UserError, match="1 or 3"):
        threat("fog:1")(None, torch.zeros(1, 4, 8, 8), NOTHING[:1])


def test_masks_move_with_an_elastic_image() -> None:
    # A picture of its own labels: where it is moved, each region keeps its grey.
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    labels = ((rows // 16 + columns // 16) % 3).expand(3, -1, -1).clone()
    labels[:, :5, :5] = 255
    images = torch.where(labels == 255, 0.9, labels / 4)[:, None].float()
    for severity in (1, 2, 3):
        one = threat(f"elastic:{severity}")
        changed, moved = one.with_labels(None, images, labels, [1, 2, 3])
        assert torch.equal(changed, one(None, images, labels, [1, 2, 3]))
        assert moved.dtype == labels.dtype
        assert set(moved.unique().tolist()) <= {0, 1, 2, 255}
        agrees = (changed[:, 0] - torch.where(moved == 255, 0.9, moved / 4)).abs() < 0.125
        still = (changed[:, 0] - torch.where(labels == 255, 0.9, labels / 4)).abs() < 0.125
        assert float(agrees.double().mean()) > 0.9  # the rest: edges, which an image has between two greys
        assert float(still.double().mean()) < 0.85
    whole = torch.tensor([2, 0, 1])
    assert one.with_labels(None, images, whole, [1, 2, 3])[1] is whole


@pytest.mark.parametrize("name", ALL)
def test_labels_stay_where_pixels_do(name: str) -> None:
    labels = torch.zeros(4, 40, 56, dtype=torch.long)
    labels[:, 10:20, 10:30] = 1
    one = threat(f"{name}:2")
    assert torch.equal(one.with_labels(None, batch(), labels)[1], labels) != one.moves_labels


@given(length=st.integers(1, 9), places=st.lists(st.integers(-30, 30), min_size=1))
def test_borders(length: int, places: list[int]) -> None:
    import numpy as np

    modes = {"nearest": "edge", "reflect": "symmetric", "mirror": "reflect"}
    for border, mode in modes.items():
        wide = np.pad(np.arange(length), 30, mode=mode)  # type: ignore[call-overload]
        assert inside(np.array(places), length, border).tolist() == wide[np.array(places) + 30].tolist()  # type: ignore[arg-type]


@pytest.mark.parametrize("border", ["nearest", "reflect", "mirror"])
@pytest.mark.parametrize("shape", [(20, 31), (5, 7)])
def test_filters_against_scipy(border: str, shape: tuple[int, int]) -> None:
    import numpy as np
    from scipy import ndimage

    stream = np.random.default_rng(0)
    image, kernel = stream.random((1, 2, *shape)), stream.random((5, 9))
    tensor = torch.from_numpy(image)
    for channel in range(2):
        blurred = ndimage.gaussian_filter(image[0, channel], 1.7, mode=border)
        assert torch.allclose(gaussian_blur(tensor, 1.7, border)[0, channel], torch.from_numpy(blurred))  # type: ignore[arg-type]
        filtered = ndimage.correlate(image[0, channel], kernel, mode=border)
        assert torch.allclose(correlate(tensor, kernel, border)[0, channel], torch.from_numpy(filtered))  # type: ignore[arg-type]


@settings(max_examples=30)
@given(height=st.integers(1, 12), width=st.integers(1, 12), reach=st.integers(1, 4), seed=st.integers(0, 1000))
def test_scattering_is_what_happens_one_pixel_after_the_other(height: int, width: int, reach: int, seed: int) -> None:
    choices = torch.randint((2 * reach) ** 2, (2, height, width), generator=torch.Generator().manual_seed(seed))
    expected = torch.arange(2 * height * width).view(2, height, width).clone()
    for image in range(2):
        for y in range(height - reach, reach, -1):
            for x in range(width - reach, reach, -1):
                down, across = divmod(int(choices[image, y, x]), 2 * reach)
                expected[image, y, x] = expected[image, y + down - reach, x + across - reach]
    assert scattered(choices, reach).tolist() == expected.flatten().tolist()


@pytest.mark.parametrize("scale", [3.0, 60.0, 500.0])
@pytest.mark.parametrize("level", [0.0, 1 / 255, 100 / 255, 0.5, 0.70001, 1.0])
def test_counts_are_poisson(scale: float, level: float) -> None:
    from scipy import stats

    draws = Draws(1, [4])
    images = torch.full((1, 1, 200, 200), level)
    counts = poisson(images, scale, draws.uniform(1, 200, 200, purpose="noise"), draws).flatten().long()
    seen = torch.bincount(counts).double()
    expected = torch.from_numpy(stats.poisson.pmf(range(len(seen)), level * scale)) * counts.numel()
    many = expected > 5
    if many.sum() < 2:
        assert counts.max() <= 1
        return
    chi = float(((seen - expected)[many].square() / expected[many]).sum())
    assert chi < stats.chi2.isf(1e-4, int(many.sum()))


class TestMeanCorruptionError:
    def test_by_hand(self) -> None:
        errors, base = {"fog": [0.2, 0.4], "snow": [0.6, 0.6]}, {"fog": 0.6, "snow": [0.5, 0.7], "jpeg": 0.1}
        assert mce(errors) == pytest.approx(0.45)
        assert mce(errors, base) == pytest.approx((0.3 / 0.6 + 1.0) / 2)
        assert relative_mce(errors, 0.1) == pytest.approx(0.35)
        assert relative_mce(errors, 0.1, base, 0.2) == pytest.approx((0.2 / 0.4 + 0.5 / 0.4) / 2)

    def test_the_baseline_has_the_fifteen(self) -> None:
        assert set(ALEXNET) == set(BENCHMARK)

    def test_mistakes(self) -> None:
        with pytest.raises(UserError, match="per cents"):
            mce({"fog": 40.0})
        with pytest.raises(UserError, match="no saturate"):
            mce({"saturate": 0.4}, ALEXNET)
        with pytest.raises(UserError, match="no errors"):
            mce({})


class TestDepth:
    def test_fog_fades_by_the_law(self) -> None:
        images, depth = torch.rand(2, 3, 5, 6), torch.rand(2, 5, 6) * 80 + 1
        foggy = fog_by_depth(images, depth, visibility=40.0, airlight=0.8)
        left = 0.05 ** (depth / 40)[:, None]
        assert torch.allclose(foggy, images * left + 0.8 * (1 - left), atol=1e-6)
        assert torch.allclose(fog_by_depth(images, torch.full_like(depth, torch.inf)), torch.tensor(0.9))

    def test_uneven_fog_is_drawn_for_each_image(self) -> None:
        images, depth = torch.rand(1, 3, 16, 16).expand(2, -1, -1, -1), torch.full((2, 16, 16), 20.0)
        one = fog_by_depth(images, depth, unevenness=1.0, keys=[3, 4])
        assert not torch.equal(one[0], one[1])
        assert torch.equal(one[1], fog_by_depth(images[1:], depth[1:], unevenness=1.0, keys=[4])[0])

    def test_focus(self) -> None:
        images = torch.rand(1, 3, 32, 32)
        depth = torch.full((1, 32, 32), 10.0)
        depth[..., 16:] = torch.inf
        changed = defocus_by_depth(images, depth, focus=10.0, blur=3.0)
        assert torch.allclose(changed[..., :16], images[..., :16])
        from vallum.threats.corruptions.filters import disc

        assert torch.allclose(changed[..., 16:], correlate(images, disc(3.0, 0.5))[..., 16:], atol=1e-6)

    def test_mistakes(self) -> None:
        with pytest.raises(UserError, match="one per pixel"):
            fog_by_depth(torch.rand(1, 3, 4, 4), torch.rand(1, 8, 8))
        with pytest.raises(UserError, match="not positive"):
            fog_by_depth(torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4))


def test_severities_hurt_more_and_more() -> None:
    images = torch.stack([picture(64, 64, seed) for seed in range(4)])
    for name in set(ALL) - {
        "saturate",
        "elastic_transform",
        "spatter",
        "frost",
        "fog",
        "snow",
        "glass_blur",
        "pixelate",
    }:
        sizes = [
            float((threat(f"{name}:{severity},table=imagenet")(None, images, NOTHING) - images).square().mean())
            for severity in (1, 2, 2.5, 3, 4, 5)
        ]
        assert all(low < high * 1.02 for low, high in pairwise(sizes)), (name, sizes)
