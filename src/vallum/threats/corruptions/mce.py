"""Mean corruption error, Hendrycks and Dietterich 2019 (arXiv 1903.12261)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from vallum.errors import UserError, did_you_mean

Errors = Mapping[str, float | Sequence[float]]

# AlexNet's top-1 error, the mean over five severities: the published normaliser of the fifteen corruptions.
ALEXNET: dict[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
ALEXNET_CLEAN = 0.43478


def mce(errors: Errors, baseline: Errors | None = None) -> float:
    """The mean over corruptions of the error, itself the mean over severities; with a baseline, of its ratio to that.

    `errors` holds, for each corruption, its error at each severity or their mean, in [0, 1]. Times 100 it is what
    papers print. The extra four corruptions have no published baseline: leave them out, or give your own.

    >>> mce({"fog": [0.2, 0.4], "snow": [0.5, 0.7]})
    0.45
    >>> round(mce(ALEXNET, baseline=ALEXNET), 6)
    1.0
    """
    means = _means(errors)
    if baseline is None:
        return fmean(means.values())
    return fmean(error / base for error, base in _paired(means, _means(baseline)))


def relative_mce(errors: Errors, clean: float, baseline: Errors | None = None, baseline_clean: float = 0.0) -> float:
    """As `mce`, of what each corruption adds to the error on clean images: how a model degrades, not where it starts.

    >>> round(relative_mce({"fog": 0.5}, clean=0.2), 6)
    0.3
    >>> round(relative_mce(ALEXNET, ALEXNET_CLEAN, baseline=ALEXNET, baseline_clean=ALEXNET_CLEAN), 6)
    1.0
    """
    means = _means(errors)
    if baseline is None:
        return fmean(error - clean for error in means.values())
    pairs = _paired(means, _means(baseline))
    return fmean((error - clean) / (base - baseline_clean) for error, base in pairs)


def _means(errors: Errors) -> dict[str, float]:
    means = {name: float(e) if isinstance(e, int | float) else fmean(e) for name, e in errors.items()}
    if not means:
        raise UserError("there are no errors", "one per corruption is needed")
    for name, mean in means.items():
        if not 0 <= mean <= 1:
            raise UserError(f"the error under {name} is {mean:g}", "errors lie in [0, 1]", "divide per cents by 100")
    return means


def _paired(means: dict[str, float], baseline: dict[str, float]) -> list[tuple[float, float]]:
    for name in means:
        if name not in baseline:
            raise UserError(f"the baseline has no {name}", remedy=did_you_mean(name, baseline))
    return [(error, baseline[name]) for name, error in means.items()]
