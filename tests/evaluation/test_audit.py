"""The audit against models of which it is known what is wrong with them, and others with which nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from planted_cheats import CHEATS, Cheat, lying
from scipy import stats
from torch import Tensor, nn

import vallum
from command_line import command
from vallum.data.data import Data
from vallum.defences import Defence, draws_for
from vallum.evaluation import sections
from vallum.evaluation.audit import CHECKS, Audit
from vallum.evaluation.audit.binarisation import Planted, readout
from vallum.evaluation.audit.bypass import Bypass, inner_network
from vallum.evaluation.audit.check import by_share
from vallum.evaluation.audit.gradients import agreement
from vallum.evaluation.audit.stops import stops
from vallum.evaluation.audit.subject import Subject
from vallum.images import Task
from vallum.models.model import Model, Wrapped

CLASSES = 5


def network(task: Task = Task.CLASSIFY) -> Model:
    """Small, untrained, and sure enough of its answers that noise does not change them."""
    torch.manual_seed(0)
    if task is Task.SEGMENT:
        pixels = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
        with torch.no_grad():
            pixels[2].weight.mul_(10)
        return Wrapped(pixels.eval(), task=task, classes=CLASSES)
    whole = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, CLASSES))
    with torch.no_grad():
        whole[3].weight.mul_(40)
    return Wrapped(whole.eval(), classes=CLASSES)


def pictures(n: int = 16) -> Tensor:
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, 12, mode="bilinear")


def data(model: Model, n: int = 16) -> Data:
    """Labelled with what the model says, so that it is right on all of it."""
    with torch.no_grad():
        return vallum.load_data((pictures(n), model(pictures(n)).argmax(1)), classes=CLASSES, task=str(model.task))


def look(model: Model, of: Model, *checks: str, **options: object) -> Audit:
    return vallum.audit(model, data(of), steps=10, checks=checks or None, progress=False, **options)  # type: ignore[arg-type]


def plain(cheat: type[Cheat]) -> Model:
    return Wrapped(cheat(network()).eval(), classes=CLASSES)


@pytest.fixture(scope="module")
def honest() -> Audit:
    return look(network(), network())


@pytest.mark.parametrize("name", CHECKS)
def test_an_honest_model_passes_each_check(honest: Audit, name: str) -> None:
    found = [one for one in honest.checks if one.name == name]
    assert [one.verdict for one in found] == ([] if name == "declarations" else ["passed"])
    assert all(one.done and one.seen and not one.remedy for one in found)


@pytest.mark.parametrize("declares", [False, True])
@pytest.mark.parametrize("cheat", CHEATS)
def test_each_cheat_is_caught(cheat: type[Cheat], declares: bool) -> None:
    model = lying(cheat, network()) if declares else plain(cheat)
    found = look(model, network())
    assert found.verdict == "failed"
    assert all(one.remedy for one in found.checks if one.verdict != "passed")


class Couples(Cheat):
    """Normalises each image by the mean of its batch."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images - images.mean(0, keepdim=True) + 0.5)


class NoGraph(Cheat):
    """Gives no gradient at all."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.network((images * 4).round() / 4)


class LooksWhoAsks(Cheat):
    """Answers otherwise where somebody wants its gradient."""

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) * (-1 if images.requires_grad else 1)


class BrightOnly(Cheat):
    """Tells bright images from dark ones: no noise makes a whole image bright, and no gradient leads there."""

    def forward(self, images: Tensor) -> Tensor:
        bright = (images.mean((1, 2, 3)) > 0.7).float()
        return (
            torch.stack([1 - bright, bright, *[bright * 0 - 1] * (CLASSES - 2)], 1)
            + 0 * images.mean((1, 2, 3))[:, None]
        )


def bright_and_dark() -> Data:
    images = torch.cat([pictures(8), 0.5 + pictures(8) / 2])
    return vallum.load_data((images, (images.mean((1, 2, 3)) > 0.7).long()), classes=CLASSES)


class ShortSighted(Cheat):
    """A gradient that points the right way on a few images of a ball, and elsewhere to nowhere."""

    def forward(self, images: Tensor) -> Tensor:
        cell = (images.flatten(1).sum(1) * 1e3).long() % 4 == 0
        logits = self.network(images)
        return torch.where(cell[:, None], logits, logits.detach() + 0 * logits)


CAUGHT_BY: dict[str, type[Cheat]] = {
    "zero gradients": next(one for one in CHEATS if one.__name__ == "Saturates"),
    "gradient against answers": next(one for one in CHEATS if one.__name__ == "AdaptsUntilSure"),
    "stopped gradients": next(one for one in CHEATS if one.__name__ == "Quantises"),
    "strength against eps": BrightOnly,
    "random noise": next(one for one in CHEATS if one.__name__ == "Quantises"),
    "black-box against white-box": next(one for one in CHEATS if one.__name__ == "StopsTheGradient"),
    "transfer against direct": next(one for one in CHEATS if one.__name__ == "StopsTheGradient"),
    "planted image": next(one for one in CHEATS if one.__name__ == "StopsTheGradient"),
    "silent success": next(one for one in CHEATS if one.__name__ == "ResizesAtRandom"),
    "course of the attack": next(one for one in CHEATS if one.__name__ == "Quantises"),
    "candidate spread": next(one for one in CHEATS if one.__name__ == "Quantises"),
    "hidden randomness": next(one for one in CHEATS if one.__name__ == "ResizesAtRandom"),
    "neighbours in the batch": Couples,
    "answers under a gradient": LooksWhoAsks,
    "state between calls": next(one for one in CHEATS if one.__name__ == "Remembers"),
}
ELSEWHERE = {"declarations", "strength against steps", "restarts"}  # tests of their own, below


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_each_check_catches_what_it_is_for(name: str) -> None:
    assert set(CHECKS) == {*CAUGHT_BY, *ELSEWHERE}
    model = plain(CAUGHT_BY[name])
    found = vallum.audit(
        model,
        bright_and_dark() if name == "strength against eps" else data(network()),
        steps=10,
        checks=[name],
        progress=False,
    )
    assert found.named("failed") == [name], found.checks


class Rounds(Defence):
    randomised = stateful = exact_gradient = False

    def purify(self, images: Tensor) -> Tensor:
        return (images * 5).round() / 5


class AddsNoise(Defence):
    randomised, stateful, exact_gradient = True, False, True

    def purify(self, images: Tensor) -> Tensor:
        return images + 0.03 * draws_for(images, "noise").normal(*images.shape[1:], purpose="pixels")


class Dims(Defence):
    randomised, stateful, exact_gradient = False, False, True

    def purify(self, images: Tensor) -> Tensor:
        return images * 0.95


class SaysNothing(Defence):
    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


@pytest.mark.parametrize("kind", [Rounds, AddsNoise, Dims, SaysNothing])
def test_a_defence_that_declares_what_is_true_does_not_fail(kind: type[Defence]) -> None:
    found = look(kind(network()), network())
    assert found.named("failed") == []
    assert "declarations" in found.named("passed")


@pytest.mark.parametrize(
    ("kind", "untrue"),
    [
        (Rounds, {"exact_gradient": True}),
        (AddsNoise, {"randomised": False}),
        (SaysNothing, {"stateful": False, "randomised": False, "exact_gradient": True}),
    ],
)
def test_a_declaration_is_taken_at_its_word_only_if_it_is_true(kind: type[Defence], untrue: dict[str, bool]) -> None:
    found = look(type("Other", (kind,), untrue)(network()), network(), "declarations")
    if kind is SaysNothing:
        assert found.verdict == "passed"  # all of it is true of a defence that does nothing
        return
    assert found.named("failed") == ["declarations"]
    assert "".join(untrue) in found.checks[0].seen


def test_a_model_without_a_gradient_is_attacked_past_what_hides_it() -> None:
    found = look(plain(NoGraph), network(), "zero gradients", "stopped gradients", "transfer against direct")
    assert len(found.named("failed")) == 3, found.checks


def test_a_search_cut_short_shows_against_steps() -> None:
    """At a radius where one step of the attack goes too far, and many small ones arrive."""
    model = network()
    weak = vallum.audit(model, data(model), steps=1, eps=3 / 255, checks=["strength against steps"], progress=False)
    strong = vallum.audit(model, data(model), steps=40, eps=3 / 255, checks=["strength against steps"], progress=False)
    assert strong.verdict == "passed"
    assert weak.checks[0].done == "the attack with 1, 1 and 4 steps"


def test_starts_that_end_elsewhere_show() -> None:
    found = vallum.audit(
        plain(ShortSighted), data(network()), steps=2, eps=4 / 255, checks=["restarts"], progress=False
    )
    assert found.verdict != "passed"


def test_segmenters_are_audited() -> None:
    model = network(Task.SEGMENT)
    found = vallum.audit(model, data(model, 6), steps=5, progress=False)
    assert found.named("failed") == [], found.checks
    rounded = type("Lies", (Rounds,), {"exact_gradient": True})(model)
    assert {"zero gradients", "declarations"} <= set(
        vallum.audit(rounded, data(model, 6), steps=5, checks=["zero gradients", "declarations"], progress=False).named(
            "failed"
        )
    )


@given(bad=st.integers(0, 80), more=st.integers(0, 80))
def test_verdicts_follow_the_interval_of_the_share(bad: int, more: int) -> None:
    of = max(bad + more, 1)
    low = stats.binomtest(bad, of).proportion_ci(0.95, "wilson").low if bad else 0.0
    expected = "passed" if bad <= 0.05 * of else "failed" if low > 0.05 else "doubtful"
    assert by_share(bad, of) == expected


def test_the_gradient_of_a_smooth_model_explains_it_and_that_of_half_a_model_half() -> None:
    class Half(Cheat):
        def forward(self, images: Tensor) -> Tensor:
            logits = self.network(images)
            return (logits + logits.detach()) / 2

    subject = subject_of(network())
    assert float(agreement(subject).unexplained.max()) < 0.02
    halves = agreement(subject_of(plain(Half))).unexplained
    assert torch.allclose(
        halves, torch.full_like(halves, 0.25), atol=0.02
    )  # half of each change: a quarter of its square


def subject_of(model: Model) -> Subject:
    return Subject(model, model, data(network()).batch(range(16)), 8 / 255)


def test_a_stop_is_named_with_its_line() -> None:
    class Stops(Cheat):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                low = images * 2
            return self.network(images.detach() + images.round() + low + images.data)

    found = stops(plain(Stops), pictures(2))
    assert [one.split(",")[0] for one in found] == [
        f"{what} in forward" for what in ("no_grad", "detach", "round", "data")
    ]
    assert all("test_audit.py:" in one for one in found)
    assert stops(network(), pictures(2)) == []


def test_the_way_past_a_cheat_is_the_network_within_at_the_pictures_that_it_sees() -> None:
    model, images = plain(CHEATS[0]), pictures(4)
    name = inner_network(model, images)
    assert name == "network.network.network"
    through = Bypass(model, name)
    point = images.clone().requires_grad_()
    assert torch.equal(through(point), model(images))
    (gradient,) = torch.autograd.grad(through(point)[:, 0].sum(), point)
    there = ((images * 4).round() / 4).requires_grad_()
    (expected,) = torch.autograd.grad(network()(there)[:, 0].sum(), there)
    assert torch.equal(gradient, expected)


@given(seed=st.integers(0, 10_000), classes=st.integers(2, 12))
@example(seed=393, classes=2)  # where the image itself lies out farthest on one side
def test_one_point_and_no_other_is_planted(seed: int, classes: int) -> None:
    points = torch.randn(30, 4, classes, generator=torch.Generator().manual_seed(seed)) * 7 + 100
    points = points - points.mean(2, keepdim=True)
    weights, threshold, which = readout(points, sureness=10.0)
    scores = (points * weights).sum(2) - threshold  # (P, N)
    assert (scores > 0).sum(0).tolist() == [1] * 4
    assert scores.argmax(0).tolist() == which.tolist()
    assert 0 not in which.tolist()
    assert torch.allclose(scores.mean(0), torch.full((4,), -10.0), rtol=1e-2)

    class Given(Model):
        def forward(self, images: Tensor) -> Tensor:
            return points[3]

    logits = Planted(Given(), weights, threshold)(torch.rand(4, 3, 2, 2))
    assert torch.allclose(logits[:, 1] - logits[:, 0], scores[3], rtol=1e-3, atol=1e-3)


def test_the_callers_model_is_not_touched() -> None:
    model = plain(next(one for one in CHEATS if one.__name__ == "Remembers"))
    look(model, network(), "state between calls")
    assert not model.network.met
    assert not any(module._forward_hooks for module in model.modules())


def test_an_audit_is_the_same_each_time() -> None:
    once, again = (look(plain(CHEATS[2]), network(), "restarts", "random noise") for _ in range(2))
    assert once.checks == again.checks


NETS = """
import torch
from torch import nn

def two():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).eval()

class Rounded(nn.Module):
    def __init__(self):
        super().__init__()
        self.two = two()
    def forward(self, images):
        return self.two((images * 4).round() / 4) + 0 * images.mean()

def rounded():
    return Rounded().eval()
"""


@pytest.mark.parametrize(("net", "code"), [("two", 0), ("rounded", 1)])
def test_the_command_says_what_it_saw_and_leaves_with_a_code(
    net: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "nets.py").write_text(NETS)
    images = np.random.default_rng(0).random((12, 3, 8, 8), np.float32)
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with torch.no_grad():
        rounded = torch.from_numpy(images if net == "two" else np.round(images * 4) / 4)
        labels = linear(rounded).argmax(1).numpy()
    np.savez("test.npz", images=images, labels=labels)
    said = command("audit", f"nets.py:{net}", "--data", "npz:test.npz?classes=2", "--steps", 3, "--out", "seen")
    assert said.code == code, said.out + said.err
    written = json.loads((tmp_path / "seen" / "audit.json").read_text())
    assert written["kind"] == "audit"
    assert written["verdict"] == ("failed" if code else "passed")
    assert [set(one) for one in written["checks"]] == [{"name", "done", "seen", "verdict", "remedy"}] * len(
        written["checks"]
    )
    [section] = sections.read("seen")
    assert isinstance(section, sections.Audit)
    assert [one.name for one in section.checks] == [one["name"] for one in written["checks"]]
    assert all(one["name"].split()[0] in said.out for one in written["checks"])
    assert ("What to do" in said.out) == bool(code)
    assert command("audit", f"nets.py:{net}", "--data", "npz:test.npz", "--eps", "0").code == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["signs_resnet", "signs_resnet_robust", "signs_vit", "signs_vit_robust"])
def test_no_false_alarm_on_the_nets_that_vallum_ships(name: str) -> None:
    found = vallum.audit(f"builtin:{name}", "builtin:signs", n=32, progress=False)
    assert found.named("failed") == [], found.checks
