"""The certificate against closed forms, and against attacks within the radius that it proves."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noisy_toys import Leaks, Shrinks, Slopes, linear
from scipy import stats
from torch import Tensor, nn

from vallum.defences import De3, Defence
from vallum.defences.noisy_modelling.certificate import certify, count_votes, lower_bound, predict
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.certify import certify as certify_all
from vallum.images import Task
from vallum.models.model import Model, Wrapped
from vallum.threats import PGD

SIGMA = 0.05  # images near 0.5: no pixel is clipped, and the smoothed linear model has a closed form


def two_classes(distance: float) -> tuple[De3, Tensor, Tensor]:
    """A linear model, an image at this distance from its boundary, and the unit way to it."""
    way = torch.randn(192, generator=torch.Generator().manual_seed(3))
    way = way / way.norm()
    layer = nn.Linear(192, 2)
    image = torch.full((3, 8, 8), 0.5)
    with torch.no_grad():
        layer.weight[:] = torch.stack([way, -way])
        layer.bias[:] = torch.tensor([1.0, -1.0]) * (distance - float(way @ image.flatten()))
    model = Wrapped(nn.Sequential(nn.Flatten(), layer), classes=2).eval()
    return De3(model, nn.Identity(), SIGMA), image, -way.view(3, 8, 8)


@pytest.mark.parametrize("distance", [0.02, 0.06, 0.1])
def test_the_radius_of_a_linear_model_is_its_distance_from_the_boundary(distance: float) -> None:
    defence, image, _ = two_classes(distance)
    found = certify(defence, image, draws=20_000, alpha=0.001)
    assert found.prediction == 0
    share = stats.norm.cdf(distance / SIGMA)  # of the noise that leaves the answer as it is
    spread = math.sqrt(share * (1 - share) / 20_000)
    assert share - 8 * spread < found.lower < share  # true but for one in a thousand seeds, and nearly tight
    assert found.radius <= distance
    assert found.radius > 0.85 * distance


@pytest.mark.parametrize("shift", [0.95, 1.3])
def test_inside_the_radius_the_vote_stands_and_outside_it_falls(shift: float) -> None:
    defence, image, way = two_classes(0.06)
    radius = certify(defence, image, draws=20_000).radius
    moved = image + shift * (radius if shift < 1 else 0.06) * way  # straight to the boundary: the best attack there is
    found = predict(defence, moved, 1, draws=20_000)
    assert found.prediction == (0 if shift < 1 else 1)


def test_attacks_within_the_radius_do_not_flip_the_vote_of_a_network(defence: De3) -> None:
    batch = Slopes(6, start=3000).batch(range(6))
    flipped, certified = 0, 0
    for image, label, key in zip(batch.images, batch.labels, batch.keys.tolist(), strict=True):
        found = certify(defence, image, key, draws=1000)
        if found.prediction is None:
            continue
        certified += found.prediction == int(label)
        attack = PGD(found.radius * 0.999, norm="2", steps=10, early_stop=False)
        worst = attack(defence.tuned(draws=8, answer="mean"), image[None], torch.tensor([found.prediction]))[0]
        voted = predict(defence, worst, key + 1000, draws=1000).prediction
        flipped += voted not in (None, found.prediction)
    assert certified >= 4
    assert flipped == 0  # one in a thousand certificates may be wrong


def test_lower_bounds_are_clopper_and_pearsons() -> None:
    for hits, n in ((0, 10), (7, 10), (10, 10), (990, 1000)):
        interval = stats.binomtest(hits, n, alternative="greater").proportion_ci(0.999, "exact")
        assert lower_bound(hits, n, 0.001) == pytest.approx(interval.low, abs=1e-9)
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    longest = stats.norm.ppf(lower_bound(10_000, 10_000, 0.001))
    assert longest == pytest.approx(3.20, abs=0.01)  # sigmas: what 10,000 draws can prove at most


def test_a_bound_holds_as_often_as_it_says() -> None:
    """Of many experiments at alpha = 0.2 about a fifth may be wrong, and no more."""
    rng = np.random.default_rng(0)
    for share in (0.6, 0.9, 0.99):
        hits = rng.binomial(200, share, 4000)
        bound = {h: lower_bound(h, 200, 0.2) for h in set(hits.tolist())}
        wrong = np.mean([bound[h] > share for h in hits.tolist()])
        assert wrong < 0.2 + 4 * math.sqrt(0.16 / 4000)


def test_votes_do_not_hang_on_the_batch_size_and_memory_not_on_the_draws() -> None:
    class Watched(Shrinks):
        longest = 0

        def forward(self, noisy: Tensor) -> Tensor:
            self.longest = max(self.longest, len(noisy))
            return super().forward(noisy)

    denoiser = Watched()
    defence, image = De3(linear(), denoiser, 0.4), Slopes(1).read(0)[0]
    known = count_votes(defence, image, 5, 1000, "certify", 0, 1000)
    assert known.sum() == 1000
    denoiser.longest = 0
    steps: list[int] = []
    assert count_votes(defence, image, 5, 1000, "certify", 0, 64, steps.append).tolist() == known.tolist()
    assert denoiser.longest == 64
    assert sum(steps) == 1000
    assert count_votes(defence, image, 6, 1000, "certify", 0, 64).tolist() != known.tolist()


def test_where_the_draws_do_not_say_enough_it_abstains() -> None:
    defence, image, _ = two_classes(0.0)
    assert certify(defence, image, draws=500).prediction is None
    assert predict(defence, image, draws=500).prediction is None
    near, image, _ = two_classes(0.01)
    assert predict(near, image, draws=50).prediction is None
    assert predict(near, image, draws=20_000).prediction == 0


def test_it_refuses_what_its_proof_does_not_cover() -> None:
    class Draws(Defence):
        exact_gradient = True

        def forward(self, images: Tensor) -> Tensor:
            return self.model(images)

    image = Slopes(1).read(0)[0]
    segmenter = Wrapped(nn.Conv2d(3, 4, 1), task=Task.SEGMENT, classes=4).eval()
    cases: list[tuple[Model, str]] = [
        (De3(linear(), Leaks(), 0.2), "sees the image without noise"),
        (De3(linear(), Shrinks(), 0.0), "sigma is 0"),
        (De3(segmenter, Shrinks(), 0.2), "a segmenter"),
        (De3(Draws(linear()), Shrinks(), 0.2), "draws at random"),
        (Draws(De3(linear(), Shrinks(), 0.2)), "as the outermost defence"),
        (linear(), "adds no noise of a known law"),
    ]
    for model, said in cases:
        for prove in (certify, predict):
            with pytest.raises(UserError, match=said):
                prove(model, image, draws=10)
    with pytest.raises(UserError, match="at least 1"):
        certify(De3(linear(), Shrinks(), 0.2), image, draws=0)


def test_a_run_over_images_goes_on_where_it_was_killed(tmp_path: Path, defence: De3) -> None:
    data = Slopes(8, start=3000)
    how: dict[str, Any] = {"sigma": [0.1, 0.2], "draws": 60, "first": 10, "progress": False, "out": tmp_path}
    whole = certify_all(defence, data, **how)
    assert len(whole.rows) == 16
    path = tmp_path / "certificate.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:6]) + "\n" + lines[6][:20])  # killed in the middle of a line
    again = certify_all(defence, data, **how)
    assert again.rows == whole.rows
    for sigma in whole.sigmas:
        rows = [row for row in whole.rows if row["sigma"] == sigma]
        held = sum(row["prediction"] == row["label"] and row["radius"] >= 0.05 for row in rows)
        assert whole.accuracy(0.05, sigma).value == held / 8
        assert whole.accuracy(0.0, sigma).value + whole.abstained(sigma).value <= 1
        assert whole.accuracy(9.0, sigma).value == 0
    (drawn,) = sections.read(tmp_path)
    assert isinstance(drawn, sections.Certified)
    assert [line.name for line in drawn.lines] == ["sigma=0.1", "sigma=0.2"]
    assert drawn.lines[0].values[0] == whole.accuracy(0.0, 0.1).value
    with pytest.raises(UserError, match="with another draws"):
        certify_all(defence, data, **{**how, "draws": 50})
    with pytest.raises(UserError, match="a probability"):
        certify_all(defence, data, **{**how, "alpha": 0.0})
