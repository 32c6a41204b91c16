"""Attacks that vallum did not write: taken as they are, pointed at the model, and verified."""

from __future__ import annotations

import dataclasses
import functools
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threat_oracles import one_step
from torch import Tensor, nn

import vallum
from vallum.errors import UserError
from vallum.models.model import Wrapped
from vallum.threats import Own, threat
from vallum.threats.base import Threat

EPS = 8 / 255


def linear(seed: int) -> Wrapped:
    torch.manual_seed(seed)
    return Wrapped(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), classes=3, mean=0.5).eval()


HELD, ATTACKED = linear(0), linear(1)
IMAGES = 0.25 + 0.5 * torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))  # no border is within reach
LABELS = ATTACKED(IMAGES).argmax(1)


def shift(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    model(images)
    return images + 0.1


def torchattacks_pgd() -> Any:
    return pytest.importorskip("torchattacks").PGD(HELD, eps=EPS, alpha=EPS, steps=3)


def torchattacks_several() -> Any:
    library = pytest.importorskip("torchattacks")
    return Own(library.MultiAttack([library.FGSM(HELD, eps=EPS), library.PGD(HELD, eps=EPS, steps=2)]), eps=EPS)


def foolbox_pgd() -> Any:
    return Own(pytest.importorskip("foolbox").attacks.LinfPGD(steps=3, rel_stepsize=1.0), eps=EPS)


def art_pgd() -> Any:
    pytest.importorskip("art")
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    estimator = PyTorchClassifier(HELD, nn.CrossEntropyLoss(), (3, 8, 8), 3, clip_values=(0, 1))
    return ProjectedGradientDescent(estimator, norm=np.inf, eps=EPS, eps_step=EPS, max_iter=3, verbose=False)


def adv_lib_pgd(monkeypatch: pytest.MonkeyPatch | None = None) -> Any:
    pytest.importorskip("adv_lib")
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))  # which it draws with, and not here
    from adv_lib.attacks import pgd_linf

    return Own(functools.partial(pgd_linf, ε=EPS, steps=40), eps=EPS)


def pyautoattack_apgd() -> Any:
    library = pytest.importorskip("pyautoattack")
    attack = library.AutoAttack(HELD, eps=EPS, version="custom", attacks=["apgd-ce"], seed=0)
    attack.apgd.n_iter, attack.apgd.n_restarts = 5, 1
    return attack


FOREIGN = [torchattacks_pgd, torchattacks_several, foolbox_pgd, art_pgd, adv_lib_pgd, pyautoattack_apgd]


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_objects_of_other_libraries_attack_the_model_that_they_are_given(make: Callable[[], Any]) -> None:
    """On a linear model the optimum is known: each coordinate moves against the difference of two rows, by eps."""
    attack = threat(make())
    assert attack.budget is not None
    assert float(attack.budget.eps) == pytest.approx(EPS)
    found = attack(ATTACKED, IMAGES, LABELS)
    assert found.shape == IMAGES.shape
    assert float((found - IMAGES).abs().max()) <= EPS * (1 + 1e-4)
    best = torch.stack([_optimum(ATTACKED, i) for i in range(len(IMAGES))])
    fell = ATTACKED(found).argmax(1) != LABELS
    could = best > 0
    assert int((fell & could).sum()) >= 0.9 * int(could.sum())
    assert not bool((fell & ~could).any())


def _optimum(model: Wrapped, i: int) -> Tensor:
    """By how much another class can lead at most, within the ball."""
    weight = model.network[1].weight.detach()
    label = int(LABELS[i])
    logits = model(IMAGES[i : i + 1])[0].detach()
    lead = logits - logits[label] + EPS * (weight - weight[label]).abs().sum(1)
    lead[label] = -torch.inf
    return lead.max()


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_an_object_is_left_as_it_was(make: Callable[[], Any]) -> None:
    attack = threat(make())
    assert isinstance(attack, Own)
    before = attack.spec
    attack(ATTACKED, IMAGES, LABELS)  # and its mark is taken anew
    assert Own(attack.attack, eps=attack.eps, norm=attack.norm).spec == before
    assert getattr(attack.attack, "model", HELD) is HELD


def test_a_function_is_a_threat(tmp_path: Path) -> None:
    data = (IMAGES, LABELS)
    run = vallum.evaluate({"linear": ATTACKED}, data, [Own(one_step, eps=16 / 255)], out=tmp_path, progress=False)
    left = next(row for row in run.summary if row["threat"].startswith("own"))
    expected = (ATTACKED(one_step(ATTACKED, IMAGES, LABELS)).argmax(1) == LABELS).float().mean()
    assert left["value"] == pytest.approx(float(expected))
    assert left["backwards"] == 10


def grain(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return (images + 0.3 * torch.randn_like(images)).clamp(0, 1)


@pytest.mark.parametrize("kind", ["noise", "corruption"])
def test_noise_of_ones_own_asks_no_model_and_is_no_attack(kind: Any, tmp_path: Path) -> None:
    threats = [Own(grain, kind=kind), one_step]
    run = vallum.evaluate(ATTACKED, (IMAGES, LABELS), threats, out=tmp_path, progress=False)
    noise = next(one for one in run.plan.threats if "grain" in one.spec)
    assert (noise.kind, noise.surfaces) == (kind, False)
    assert noise.spec.endswith(f"kind={kind}")
    left = {row["threat"]: row for row in run.summary}
    assert left[noise.spec]["backwards"] == 0
    worst = next(one for one in run.outcomes if one.threat == "worst attack")
    step = next(one for one in run.outcomes if "one_step" in one.threat)
    assert worst.accuracy.tolist() == step.accuracy.tolist()  # all were right before
    with pytest.raises(UserError, match="kind=noise or kind=corruption"):
        Own(grain)(ATTACKED, IMAGES, LABELS)


def test_noise_of_ones_own_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grains.py").write_text("def grain(model, images, labels): return images * 0.5\n")
    monkeypatch.chdir(tmp_path)
    made = threat("own:grains.py:grain,kind=corruption")
    assert (made.kind, threat(made.spec)) == ("corruption", made)
    assert made(None, IMAGES, LABELS).equal(IMAGES * 0.5)
    with pytest.raises(UserError, match="one of"):
        threat("own:grains.py:grain,kind=weather")


def test_what_cannot_be_called_as_an_attack_is_refused_before_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"maker\(.* cannot be called with \(model, images, labels\)"):
        Own(maker)
    (tmp_path / "own_maker.py").write_text("def made(): return None\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^own_maker.py:made\(\) cannot"):
        threat("own:own_maker.py:made")
    with pytest.raises(UserError, match="missing a required argument: 'eps'"):
        Own(needs)
    assert Own(functools.partial(needs, eps=0.1)).kind == "attack"


def maker(eps: float = 0.1) -> Any:
    return shift


def needs(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    return shift(model, images, labels)


TROUBLE: dict[str, tuple[Any, str]] = {
    "leaves its ball": (Own(shift, eps=0.05), "moved .* by 0.1 in norm inf: eps is 0.05"),
    "leaves the range": (lambda m, x, y: m(x) + 0 if False else (m(x), x + 0.9)[1], "lies in"),
    "another shape": (lambda m, x, y: (m(x), x[:, :, :4])[1], "has shape"),
    "NaN": (lambda m, x, y: (m(x), x * torch.nan)[1], "NaN"),
    "no tensor": (lambda m, x, y: "images", "returns a str"),
    "another model": (lambda m, x, y: (HELD(x), x)[1], "never asked the model"),
}


@pytest.mark.parametrize(("attack", "said"), TROUBLE.values(), ids=TROUBLE)
def test_what_an_attack_returns_is_verified_before_it_counts(attack: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        vallum.evaluate({"linear": ATTACKED}, (IMAGES, LABELS), attack, out=tmp_path, progress=False)


def test_a_function_in_a_file_is_named_by_a_string(tmp_path: Path) -> None:
    code = "def nudge(model, images, labels):\n    model(images)\n    return (images + 0.01).clamp(0, 1)\n"
    (tmp_path / "attacks.py").write_text(code)
    spec = f"own:{tmp_path / 'attacks.py'}:nudge,eps=0.02"
    attack = threat(spec)
    assert attack.spec == spec
    assert torch.equal(attack(ATTACKED, IMAGES, LABELS), (IMAGES + 0.01).clamp(0, 1))
    assert torch.equal(pickle.loads(pickle.dumps(attack))(ATTACKED, IMAGES, LABELS), attack(ATTACKED, IMAGES, LABELS))
    with pytest.raises(UserError, match="did you mean nudge"):
        threat(f"own:{tmp_path / 'attacks.py'}:nudgee,eps=0.02")


def foolbox(name: str, **settings: Any) -> Any:
    return getattr(pytest.importorskip("foolbox").attacks, name)(**settings)


@pytest.mark.parametrize(
    ("name", "norm"),
    [("LinfPGD", "inf"), ("L2PGD", "2"), ("L1PGD", "1"), ("L2DeepFoolAttack", "2"), ("EADAttack", "1"), ("FGM", "2")],
)
def test_the_norm_of_a_foolbox_attack_is_its_own(name: str, norm: str) -> None:
    attack = Own(foolbox(name), eps=0.5)
    assert attack.budget is not None
    assert attack.budget.norm.name == norm
    assert Own(foolbox(name)).budget is None, "no radius is known"


def test_a_foolbox_attack_in_its_own_norm() -> None:
    attack = Own(foolbox("L2FastGradientAttack"), eps=0.5)
    found = attack(ATTACKED, IMAGES, LABELS)
    length = (found - IMAGES).flatten(1).norm(dim=1)
    assert length.tolist() == pytest.approx([0.5] * 10, rel=1e-3)
    with pytest.raises(UserError, match="takes its radius in norm 2, not inf"):
        Own(foolbox("L2FastGradientAttack"), eps=0.5, norm="inf")(ATTACKED, IMAGES, LABELS)
    with pytest.raises(UserError, match="eps is needed"):
        Own(foolbox("L2FastGradientAttack"))(ATTACKED, IMAGES, LABELS)


def test_an_attack_at_work_stays_what_it_was_when_its_file_is_edited(tmp_path: Path) -> None:
    code = "def nudge(model, images, labels):\n    model(images)\n    return (images + 0.01).clamp(0, 1)\n"
    (tmp_path / "edited.py").write_text(code)
    spec = f"own:{tmp_path / 'edited.py'}:nudge"
    before = threat(spec)
    (tmp_path / "edited.py").write_text(code.replace("0.01", "0.02"))
    again, after = dataclasses.replace(before, seed=1), threat(spec)  # type: ignore[type-var]
    for attack, by in ((before, 0.01), (again, 0.01), (after, 0.02)):
        assert torch.equal(attack(ATTACKED, IMAGES, LABELS), (IMAGES + by).clamp(0, 1))
    assert before.fingerprint == again.fingerprint != after.fingerprint
    assert pickle.loads(pickle.dumps(after)).fingerprint == after.fingerprint


def test_a_changed_attack_has_another_name() -> None:
    def scaled(by: float) -> Callable[..., Tensor]:
        return lambda model, images, labels: images * by

    specs = [threat(scaled(0.5)).spec, threat(scaled(0.25)).spec]
    assert specs[0] != specs[1]
    assert threat(scaled(0.5)).spec == specs[0]
    partial = functools.partial(needs, eps=0.1)
    assert threat(partial).spec != threat(functools.partial(needs, eps=0.2)).spec
    assert isinstance(threat(partial), Threat)


def test_the_seed_decides_what_an_attack_draws() -> None:
    def noise(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        model(images)
        return torch.rand_like(images)

    one, same, other = (Own(noise, seed=seed)(ATTACKED, IMAGES, LABELS) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    before = torch.get_rng_state()
    Own(noise)(ATTACKED, IMAGES, LABELS)
    assert torch.equal(torch.get_rng_state(), before)
