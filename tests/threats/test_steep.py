"""Slopes that are infinite or none, answers that are no numbers, parameters and radii that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from threat_oracles import Exact, ExactPixels, Linear, drawn
from torch import Tensor, nn

from vallum import evaluate, load_model
from vallum.errors import UserError
from vallum.threats import PGD, HopSkipJump, Own, Square, Strong, threat
from vallum.threats.losses import fallen, loss_named
from vallum.threats.norms import norm_named
from vallum.threats.search import Best
from vallum.threats.slope import mended, slope_of

EPS = 0.12


class Gamma(Linear):
    def __init__(self) -> None:
        super().__init__(drawn(5, 432) / 20)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.pow(0.45))


def photographs(n: int = 24) -> tuple[Gamma, Tensor, Tensor]:
    """With black rows, above in all of them and in the middle of some."""
    model, images = Gamma(), torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    images[:, :, :2], images[::3, :, 4:9] = 0, 0
    return model, images, model(images).argmax(1)


def felled(spec: str, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    found = threat(spec)(model, images, labels)
    assert bool(found.isfinite().all())
    return model(found).argmax(1) != labels


def test_gradients_break_in_the_norm_2_what_random_search_breaks() -> None:
    model, images, labels = photographs()
    without = felled(f"random_search:eps={EPS},norm=2", model, images, labels)
    assert 5 <= int(without.sum()) <= 20
    for spec in (
        "fgsm",
        "momentum",
        "pgd:steps=10",
        "pgd:steps=10,random_start=false",
        "apgd:steps=10",
        "padam:steps=20",
    ):
        name, _, rest = spec.partition(":")
        with_slopes = felled(f"{name}:eps={EPS},norm=2,{rest}".rstrip(","), model, images, labels)
        assert int((without & ~with_slopes).sum()) <= 1, spec
        assert int(with_slopes.sum()) >= int(without.sum()), spec
    near = without & (felled("fmn:steps=30", model, images, labels))
    lengths = (threat("fmn:steps=30")(model, images, labels) - images).flatten(1).norm(dim=1)
    assert bool((lengths[near] <= EPS).all())
    assert int(near.sum()) >= int(without.sum()) - 1


def test_an_evaluation_reports_what_an_infinite_slope_leads_to() -> None:
    model, images, labels = photographs()
    labels[:5] = torch.arange(5)  # each class once, so that clean accuracy is below 1
    attacks = ["apgd:eps=0.5,norm=2,steps=20", "fmn:steps=30"]
    run = evaluate({"gamma": load_model(model.eval(), classes=5)}, (images, labels), attacks)
    clean, bounded, unbounded, *_ = (row["value"] for row in run.summary)
    assert clean > 0.7
    assert bounded < 0.1
    assert unbounded == 0


def test_a_finite_gradient_is_as_autograd_gives_it() -> None:
    point = drawn(4, 3, 5, 5).mul(1e30).requires_grad_()  # whose sum overflows
    values = (point.double() * drawn(4, 3, 5, 5, seed=1).double()).flatten(1).sum(1) * 1e38
    (wanted,) = torch.autograd.grad(values.sum(), point, retain_graph=True)
    assert torch.equal(slope_of(values, point), wanted)
    assert torch.equal(mended(wanted, point.detach()), wanted)


def test_an_infinite_slope_counts_where_there_is_room() -> None:
    gradient = torch.tensor([[torch.inf, -torch.inf, torch.inf, -torch.inf, torch.nan, 2.0, -5.0]])
    point = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0]])
    assert mended(gradient, point).tolist() == [[5, 0, 0, -5, 0, 2, -5]]
    assert mended(gradient, point, box=None).tolist() == [[5, -5, 5, -5, 0, 2, -5]]
    assert mended(gradient, point, box=(-1.0, 2.0)).tolist() == [[5, -5, 5, -5, 0, 2, -5]]


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_a_step_in_the_norm_2_is_as_long_whatever_the_slope(scale: float) -> None:
    gradient, room = drawn(2, 3, 4, 4) * scale, torch.ones(2, 3, 4, 4)
    step = norm_named("2").steepest(gradient, torch.tensor([0.5, 2.0]), -room, room)
    assert step.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5, 2.0], rel=1e-5)


def test_no_answer_is_no_fall() -> None:
    nan, inf = torch.nan, torch.inf
    logits = torch.tensor([[1.0, 2, 0], [nan, nan, nan], [0, nan, 0], [inf, 0, 0], [0, inf, 0], [1, -inf, 0]])
    for label in range(3):
        labels = torch.full((6,), label)
        assert fallen(logits, labels, targeted=False).tolist() == [label != 1, *[False] * 4, label != 0]
        assert fallen(logits, labels, targeted=True).tolist() == [label == 1, *[False] * 4, label == 0]


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("masks", [False, True])
def test_a_candidate_without_an_answer_is_never_kept(targeted: bool, masks: bool) -> None:
    images = torch.rand(4, 3, 2, 2)
    labels = torch.zeros(4, 2, 2, dtype=torch.long) if masks else torch.zeros(4, dtype=torch.long)
    best = Best(images, labels, targeted)
    logits = torch.zeros(4, 3, 2, 2)
    for row, column in ((0, 0), (1, 1)):
        logits[row, column, 1, 1] = torch.nan  # in one pixel of a mask
        logits[row + 2, column, 1, 1] = torch.inf
    logits = logits if masks else logits[..., 1, 1]
    loss = loss_named("margin")(logits, labels) * (-1 if targeted else 1)
    assert not bool(best.offer(best.everyone(), 1 - images, logits, loss).any())
    assert torch.equal(best.images, images)
    assert not bool(best.has_fallen.any())


def test_what_an_ignored_pixel_holds_keeps_no_candidate_out() -> None:
    images, labels = torch.rand(1, 3, 2, 2), torch.tensor([[[0, 255], [0, 0]]])
    best, logits = Best(images, labels, targeted=False), torch.zeros(1, 3, 2, 2)
    logits[0, 1] = 1
    logits[0, :, 0, 1] = torch.nan
    assert best.offer(best.everyone(), 1 - images, logits, loss_named("margin")(logits, labels)).tolist() == [True]
    assert best.has_fallen.tolist() == [True]


@pytest.mark.parametrize(
    "name", ["square:eps=0.5,norm=2,queries=10", "padam:eps=8/255", "sigma_zero", "ddn", "momentum:eps=0.1"]
)
def test_half_precision_divides_by_nothing(name: str) -> None:
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(0)).half()
    weight = drawn(3, 432) * 1e-5

    def faint(images: Tensor) -> Tensor:
        return images.flatten(1).float() @ weight.T

    found = threat(name)(faint, images, faint(images).argmax(1))
    assert found.dtype == torch.float16
    assert bool(((found >= 0) & (found <= 1)).all())


@pytest.mark.parametrize(
    "spec",
    [
        *(
            "patch:size=0.1,step_size=-1",
            "patch:size=0.1,decay=-3",
            "patch:size=0.1,decay=nan",
            "patch:size=0.1,shift=inf",
        ),
        *("ddn:first_radius=0", "ddn:change=-1", "ddn:change=1", "fmn:step_size=-1", "fmn:change=0"),
        *(
            "hop_skip_jump:directions=0",
            "hop_skip_jump:directions=-5",
            "sigma_zero:sigma=0",
            "sigma_zero:step_size=inf",
        ),
        *("sigma_zero:threshold=2", "sigma_zero:threshold_step=-1", "square:eps=0.1,area=-1", "square:eps=0.1,area=0"),
        *(
            "momentum:eps=0.1,decay=nan",
            "apgd:eps=0.1,steps=9,large_first=true",
            "feature:eps=0.1,steps=5,large_first=true",
        ),
    ],
)
def test_parameters_that_make_no_sense_are_refused(spec: str) -> None:
    parameter = spec.rpartition(",")[2].rpartition(":")[2].partition("=")[0]
    with pytest.raises(UserError, match="jitter" if parameter == "shift" else parameter):
        threat(spec)


@pytest.mark.parametrize("attack", [PGD, Square, Strong, HopSkipJump])
@pytest.mark.parametrize("eps", [torch.tensor(8.0), torch.tensor([0.1, 8.0]), torch.tensor([[8.0]]), 8])
def test_a_radius_of_bytes_is_refused_however_it_is_given(attack: Any, eps: Any) -> None:
    with pytest.raises(UserError, match=r"eps=8: .*write eps=8/255"):
        attack(eps=eps, norm="inf")
    assert attack(eps=eps, norm="2").budget.norm.name == "2"
    with pytest.raises(UserError, match="eps=-1"):
        attack(eps=torch.tensor([0.1, -1.0]))


@pytest.mark.parametrize("eps", [8, float("nan"), -0.1])
def test_the_ball_of_an_attack_of_ones_own_holds_something_back(eps: float) -> None:
    with pytest.raises(UserError, match="eps="):
        Own(lambda model, images, labels: images, eps=eps)
    assert Own(lambda model, images, labels: images, eps=8, norm="2").ball.eps == 8


def test_a_classifier_has_no_overlap_to_lower() -> None:
    images, labels = torch.rand(2, 3, 16, 16), torch.zeros(2, dtype=torch.long)
    for spec in ("strong:eps=0.1,lowest=miou", "strong:eps=0.1,lowest=miou,shares=(1,1,1)"):
        with pytest.raises(UserError, match="lowest=miou against a classifier"):
            threat(spec)(Exact(), images, labels)
    threat("strong:eps=0.1,lowest=miou,effort=0.02")(ExactPixels(), images, ExactPixels()(images).argmax(1))


def test_an_error_of_the_models_own_is_left_as_it_is() -> None:
    def breaks(images: Tensor) -> Tensor:
        raise LookupError("no such layer")

    with pytest.raises(LookupError, match="no such layer"):
        PGD(0.1)(breaks, torch.rand(2, 3, 4, 4), torch.zeros(2, dtype=torch.long))
