"""Random corruptions in distribution: many draws here, many draws of the reference, two-sample tests between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from corruption_references import as_bytes, as_image, corrupt_tta, imagecorruptions, picture
from scipy import stats
from torch import Tensor

from vallum.threats import threat

IMAGE = picture(64, 64)
DRAWS = 150


def statistics_of(images: Tensor) -> dict[str, Tensor]:
    """(N,) each, of (N, C, H, W): level, contrast, and how the energy lies over scales."""
    grey = images.double().mean(1)
    power = torch.fft.rfft2(grey - grey.mean((1, 2), keepdim=True)).abs().square()
    radius = torch.hypot(*torch.meshgrid(torch.fft.fftfreq(64).abs() * 64, torch.arange(33.0), indexing="ij"))
    bands = {f"power {low} to {2 * low}": power[:, (radius >= low) & (radius < 2 * low)].mean(1) for low in (1, 4, 16)}
    return {
        "mean": grey.mean((1, 2)),
        "deviation": grey.std((1, 2)),
        "colour": (images[:, 0] - images[:, -1]).double().std((1, 2)),
        **bands,
    }


def p_values(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    one, other = statistics_of(ours), statistics_of(theirs)
    # Rounded, because what does not vary at all differs by rounding error alone.
    return {
        name: float(stats.ks_2samp(one[name].round(decimals=5), other[name].round(decimals=5)).pvalue) for name in one
    }


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("gaussian_noise", "corrupt_tta"),
        ("shot_noise", "corrupt_tta"),
        ("impulse_noise", "corrupt_tta"),
        ("speckle_noise", "corrupt_tta"),
        ("motion_blur", "imagecorruptions"),
        ("snow", "imagecorruptions"),
        ("fog", "imagecorruptions"),
        ("spatter", "imagecorruptions"),
    ],
)
def test_same_distribution(name: str, package: str, severity: int) -> None:
    image_module = pytest.importorskip("PIL.Image")
    reference = getattr({"corrupt_tta": corrupt_tta, "imagecorruptions": imagecorruptions}[package](), name)
    given = image_module.fromarray(as_bytes(IMAGE)) if name == "spatter" else as_bytes(IMAGE)
    np.random.seed(severity)
    theirs = torch.stack([as_image(reference(given, severity)) for _ in range(DRAWS)])
    ours = threat(f"{name}:severity={severity},table=imagenet")(
        None, IMAGE.expand(DRAWS, -1, -1, -1), torch.zeros(DRAWS)
    )
    values = p_values(ours, theirs)
    if name == "snow":  # ImageNet-C cut the flakes to bytes before they were blurred, which the package leaves out
        del values["mean"]
    # Six statistics in 24 cases: one in ten thousand each leaves about one false alarm in seventy runs of the suite,
    # and the draws are fixed.
    assert min(values.values()) > 1e-4, values
    # Pixel by pixel the means agree within their standard error. A fifth of a level more is for casts to bytes.
    error = ((ours.double().var(0) + theirs.var(0)) / DRAWS).sqrt()
    excess = ((ours.double().mean(0) - theirs.mean(0)).abs() - 0.2 / 255).clamp_min(0) / error.clamp_min(1e-6)
    if name not in ("motion_blur", "fog", "snow"):  # those move pixels together: they are no independent samples
        assert float((excess > 4).double().mean()) < 1e-3


def test_the_tests_can_tell() -> None:
    """The same comparison between severities that differ by a quarter finds them different."""
    images = IMAGE.expand(DRAWS, -1, -1, -1)
    for name in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "snow", "spatter"):
        one, other = (
            threat(f"{name}:severity={severity},table=imagenet,seed={seed}")(None, images, torch.zeros(DRAWS))
            for severity, seed in ((3, 0), (3.25, 1))
        )
        assert min(p_values(one, other).values()) < 1e-4, name
