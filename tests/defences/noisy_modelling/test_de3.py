"""De^3: what goes through it, what can be turned, how it is attacked, how it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from noisy_toys import Leaks, Shrinks, Slopes, linear, untrained
from torch import nn

import vallum
from vallum.defences import De3, Defence
from vallum.defences.base import knobs_of, surfaces_of
from vallum.defences.chance import drawing
from vallum.defences.stand_ins import Averaged
from vallum.errors import UserError
from vallum.images import Task
from vallum.models import load_model, save_model, weights_fingerprint
from vallum.models.model import Model, Wrapped
from vallum.threats import PGD

HELD_OUT = Slopes(120, start=3000).batch(range(120))


def correct(model: Model, images: torch.Tensor, draws: int = 12) -> torch.Tensor:
    """(draws, N): whether fresh draws answer right."""
    with torch.no_grad():
        found = []
        for number in range(draws):
            with drawing(seed=77, numbers=number):
                found.append(model(images).argmax(1) == HELD_OUT.labels[: len(images)])
    return torch.stack(found)


def test_off_it_is_the_model_and_a_perfect_denoiser_changes_nothing() -> None:
    class Perfect(nn.Module):
        sees_images = True

        def forward(self, noisy: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
            return images

    model, images = linear(), HELD_OUT.images[:6]
    assert torch.equal(De3(model, Shrinks(), 0.0)(images), model(images))
    for draws in (1, 3):
        found = De3(model, Perfect(), 0.3, draws=draws, answer="mean")(images).log_softmax(1)
        assert torch.allclose(found, model(images).log_softmax(1), atol=1e-5)
    assert not torch.equal(De3(model, Shrinks(), 0.0, always=True)(images), model(images))


def test_the_answer_depends_on_the_noisy_image_alone_unless_the_denoiser_says_otherwise() -> None:
    images = HELD_OUT.images[:4].clone().requires_grad_()
    noisy = torch.rand(4, 3, 8, 8)
    for denoiser, leaks in ((untrained().denoiser, False), (Leaks(), True)):
        found = De3(linear(), denoiser, 0.3)._denoised(noisy, images)
        assert found.requires_grad == leaks or torch.autograd.grad(found.sum(), images, allow_unused=True)[0] is None
    other = De3(linear(), Leaks(), 0.3)._denoised(noisy, images.detach() * 0.5)
    assert not torch.equal(other, found)


def test_several_draws_vote_or_are_averaged_in_one_batch() -> None:
    model, images, calls = linear(), HELD_OUT.images[:5], []

    class Watched(Shrinks):
        def forward(self, noisy: torch.Tensor) -> torch.Tensor:
            calls.append(noisy)
            return super().forward(noisy)

    vote, mean = (De3(model, Watched(), 0.6, 7, answer) for answer in ("vote", "mean"))  # type: ignore[arg-type]
    shares, probabilities = vote(images), mean(images)
    assert [len(noisy) for noisy in calls] == [35, 35]
    assert torch.equal(calls[0], calls[1])
    logits = model(Shrinks()(calls[0]).clamp(0, 1)).view(5, 7, -1)
    assert torch.allclose(probabilities.exp(), logits.softmax(2).mean(1), atol=1e-5)
    votes = torch.stack([row.argmax(1).bincount(minlength=4) for row in logits])
    assert torch.allclose(shares.exp(), votes / 7, atol=2e-3)
    assert torch.equal(shares.argmax(1), (votes + 1e-3 * logits.softmax(2).mean(1)).argmax(1))
    alone = mean(images[3:4])
    assert torch.allclose(alone[0], probabilities[3], atol=1e-5)


def test_a_segmenter_can_stand_behind_it() -> None:
    model = Wrapped(nn.Conv2d(3, 4, 1), task=Task.SEGMENT, classes=4).eval()
    for answer in ("vote", "mean"):
        assert De3(model, Shrinks(), 0.2, 3, answer)(HELD_OUT.images[:2]).shape == (2, 4, 8, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", ["single", "mean"])
def test_gradients_are_those_of_finite_differences_where_the_noise_is_held(answer: str) -> None:
    defence = De3(linear().double(), untrained().denoiser.double(), 0.1, 1 if answer == "single" else 3, "mean").eval()
    images = HELD_OUT.images[:2].double().requires_grad_()
    assert defence.exact_gradient
    with drawing(known=True):
        (gradient,) = torch.autograd.grad(defence(images)[:, 1].sum(), images)
        way = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        ahead, behind = (defence(images.detach() + step * way)[:, 1].sum() for step in (1e-5, -1e-5))
    assert float((gradient * way).sum()) == pytest.approx(float((ahead - behind).detach()) / 2e-5, rel=1e-4)


def test_the_noise_of_the_gradient_falls_with_the_number_of_draws() -> None:
    defence = untrained()
    images = HELD_OUT.images[:4].clone().requires_grad_()

    def spread(draws: int) -> float:
        found = []
        for number in range(24):
            with drawing(seed=number):
                loss = Averaged(defence, draws, of="logits")(images)[:, 0].sum()
            found.append(torch.autograd.grad(loss, images)[0])
        return float(torch.stack(found).var(0).mean())

    assert 2 < spread(2) / spread(8) < 8  # 4 in expectation


def test_knobs_are_turned_without_a_copy_of_the_weights() -> None:
    defence = untrained()
    other = defence.tuned(sigma=0.1, draws=4)
    assert (other.sigma, other.draws, defence.sigma) == (0.1, 4, 0.25)
    assert other.denoiser is defence.denoiser
    assert weights_fingerprint(other) != weights_fingerprint(defence)  # another model to a run

    class Around(Defence):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.model(images)

    stack = Around(defence)
    assert set(knobs_of(stack)) == {"sigma", "draws", "answer", "hide"}
    assert stack.tuned(sigma=0.3).model.sigma == 0.3  # type: ignore[union-attr]
    assert defence.sigma == 0.25
    with pytest.raises(UserError, match=r"no knob 'sgima'.*sigma"):
        stack.tuned(sgima=0.3)
    for wrong in ({"sigma": -1.0}, {"sigma": 70.0}, {"draws": 0}, {"answer": "loud"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            defence.tuned(**wrong)


def test_it_is_attacked_as_it_is_deployed() -> None:
    defence = untrained()
    names = [surface.name for surface in defence.attack_surfaces()]
    assert names == [
        "direct", "expectation", "known draw", "black-box", "transfer", "low frequency", "open clamp",
    ]  # fmt: skip
    off = [surface.name for surface in defence.tuned(sigma=0.0).attack_surfaces()]
    assert off == ["direct", "black-box", "transfer"]
    vote = defence.tuned(draws=4)
    assert not vote.exact_gradient
    through = {surface.name: surface.through for surface in vote.attack_surfaces()}["mean of draws"]
    images = HELD_OUT.images[:3].clone().requires_grad_()
    assert bool((torch.autograd.grad(through(images)[:, 0].sum(), images)[0].flatten(1).norm(dim=1) > 0).all())


def test_the_open_clamp_lets_gradients_through_where_pixels_are_saturated() -> None:
    class Bright(nn.Module):
        def forward(self, noisy: torch.Tensor) -> torch.Tensor:
            return noisy + 2

    defence, images = De3(linear(), Bright(), 0.1), HELD_OUT.images[:2].clone().requires_grad_()
    through = {surface.name: surface.through for surface in defence.attack_surfaces()}
    (own,) = torch.autograd.grad(defence(images)[:, 0].sum(), images)
    assert not own.any()
    opened = through["open clamp"]
    assert torch.allclose(opened.model(images), defence(images))  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(opened(images)[:, 0].sum(), images)
    assert bool((gradient.flatten(1).norm(dim=1) > 0).all())


def test_low_frequency_gradients_are_means_over_cells() -> None:
    defence, images = De3(linear(), Shrinks(), 0.1), HELD_OUT.images[:2].clone().requires_grad_()
    slow = {surface.name: surface.through for surface in defence.attack_surfaces()}["low frequency"].model
    with drawing(known=True):
        (own,) = torch.autograd.grad(defence(images)[:, 0].sum(), images)
        assert torch.equal(slow(images), defence(images))  # type: ignore[operator]
        (found,) = torch.autograd.grad(slow(images)[:, 0].sum(), images)  # type: ignore[operator]
    cells = own.view(2, 3, 2, 4, 2, 4).mean((3, 5))
    assert torch.allclose(found, cells.repeat_interleave(4, 2).repeat_interleave(4, 3), atol=1e-6)


def test_attacks_get_stronger_with_radius_steps_and_draws(defence: De3) -> None:
    images, labels = HELD_OUT.images[:48], HELD_OUT.labels[:48]
    clean = correct(defence, images).float().mean()

    def left(eps: float, steps: int, average: int) -> torch.Tensor:
        through = Averaged(defence, average) if average > 1 else defence
        return correct(defence, PGD(eps, steps=steps, early_stop=False)(through, images, labels))

    single, several = left(0.1, 10, 1), left(0.1, 12, 8)
    noise = 3 * (0.25 / single.numel()) ** 0.5
    assert several.float().mean() <= single.float().mean() + noise  # 12 steps of 8 draws, and 10 steps of one
    assert left(0.05, 10, 4).float().mean() + noise >= several.float().mean()
    assert left(1.0, 10, 4).float().mean() < 0.05  # nothing withstands an unbounded attack
    assert several.all(0).float().mean() <= several.float().mean() <= clean + noise
    worst = [several[:k].all(0).float().mean() for k in (1, 4, 12)]
    assert worst == sorted(worst, reverse=True)


def test_a_folder_makes_it_again_bit_for_bit(tmp_path: Path, hardened: Path, defence: De3) -> None:
    again = load_model(save_model(defence.tuned(sigma=0.3, draws=2), tmp_path / "saved"))
    assert isinstance(again, De3)
    assert (again.sigma, again.draws, again.answer, again.size) == (0.3, 2, "vote", (8, 8))
    with torch.no_grad():
        assert torch.equal(again(HELD_OUT.images), defence.tuned(sigma=0.3, draws=2)(HELD_OUT.images))
    assert weights_fingerprint(again) == weights_fingerprint(defence.tuned(sigma=0.3, draws=2))
    with pytest.raises(UserError, match="was made in Python"):
        save_model(De3(linear(), Shrinks()), tmp_path / "no")


def test_a_denoiser_of_ones_own_takes_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    spec = f"noisy_modelling:denoiser={Path(__file__).parent / 'noisy_toys.py'}:Shrinks,pretraining_lr=0.05"
    settings = {"epochs": 2, "batch_size": 32, "lr": 0.01, "validation": 0.0, "quiet": True}
    model = vallum.train(load_model("net:resnet?classes=4"), Slopes(64), spec, out=tmp_path / "own", **settings)  # type: ignore[arg-type]
    assert isinstance(model, De3)
    assert float(model.denoiser.keep.detach()) != 0.5
    with pytest.raises(UserError, match="built by running code"):
        load_model(tmp_path / "own")
    again = load_model(tmp_path / "own", trust=True)
    assert torch.equal(again.denoiser.keep, model.denoiser.keep)  # type: ignore[union-attr]


def test_denoisers_that_make_something_else() -> None:
    with pytest.raises(UserError, match="of the same shape"):
        De3(linear(), nn.Flatten())(HELD_OUT.images[:2])
    for text, said in (
        ("noisy_modelling:?encoder=net:vit", "lacks model="),
        ("noisy_modelling:?model=net:vit?classes=4", "lacks encoder="),
        ("noisy_modelling:?model=net:vit?classes=4&encoder=net:vit&decoder=lstm", "one of transformer, linear"),
        ("noisy_modelling:?model=net:vit?classes=4&encoder=net:vit&decoder=linear&width=8", "has no width"),
        ("noisy_modelling:?model=net:vit?classes=4&encoder=net:vit&sgima=1", "did you mean sigma"),
    ):
        with pytest.raises(UserError, match=said):
            load_model(text)


@pytest.mark.parametrize("answer", ["mean", "vote"])
def test_threats_that_are_fitted_meet_it(answer: str, tmp_path: Path) -> None:
    defence = De3(linear(), Shrinks(), sigma=0.1, draws=2, answer=answer).eval()  # type: ignore[arg-type]
    attack = "universal:eps=16/255,steps=1,images=4,targets=0"
    run = vallum.evaluate(defence, Slopes(12), attack, n=4, draws=2, undefended=False, out=tmp_path, progress=False)
    fitted = {found["surface"] for found in run.perturbations}
    assert fitted == {surface.name for surface in surfaces_of(defence, thorough=False)} - {"black-box"}
