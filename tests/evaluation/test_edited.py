"""A run that is called again after an edit: no old row is taken for a new one, and all others are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import vallum
from vallum.defences.base import Defence
from vallum.evaluation import evaluator
from vallum.models import save_model
from vallum.models.model import Wrapped

LABELS = torch.arange(24) % 2
IMAGES = torch.full((24, 3, 8, 8), 0.5) + 0.02 * (2 * LABELS - 1).view(-1, 1, 1, 1)

ATTACK = """
from beside_the_attack import BY

def push(model, images, labels):
    model(images)
    return (images - BY * 1 * (2 * labels - 1).view(-1, 1, 1, 1)).clamp(0, 1)
"""
MODEL = """
import torch
from torch import nn

LEFT, RIGHT = -1, 1

class Bright(nn.Module):
    def __init__(self):
        super().__init__()
        self.cut = nn.Parameter(torch.tensor(0.5))
    def forward(self, images):
        over = 1 * (images.mean((1, 2, 3)) - self.cut)
        return torch.stack([LEFT * over, RIGHT * over + 1e-4], 1)

def build(): return nn.Sequential(Bright(), nn.Identity()).eval()
"""


def bright(sign: float = 1.0) -> nn.Module:
    """Tells bright images from dark ones, or with the other sign dark ones from bright ones."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        net[2].weight.copy_(sign * torch.tensor([[-1.0] * 3, [1.0] * 3]))
        net[2].bias.copy_(sign * torch.tensor([1.5, -1.5]))
    return net.eval()


class Shifted(Defence):
    randomised, exact_gradient, stateful = False, True, False

    def __init__(self, model: Any, by: float) -> None:
        super().__init__(model)
        self.by = by

    def purify(self, images: Tensor) -> Tensor:
        return images + self.by


def left(model: Any, threats: Any, out: Path) -> float:
    """Of the last threat, on the last model."""
    run = vallum.evaluate(
        {"net": model}, (IMAGES, LABELS), threats, out=out, progress=False, undefended=False, pictures=0
    )
    return float(run.summary[-1]["value"])


@pytest.fixture
def attack(tmp_path: Path) -> Path:
    (tmp_path / "beside_the_attack.py").write_text("BY = 0.1\n")
    file = tmp_path / "attack.py"
    file.write_text(ATTACK)
    return file


@pytest.mark.parametrize(
    "spec", ["own:{}:push", "clean+own:{}:push", "equal_energy:of=(own:{}:push),rms=0.1"], ids=lambda s: s[:6]
)
def test_an_attack_that_was_edited_is_run_anew(spec: str, attack: Path, tmp_path: Path) -> None:
    spec = spec.format(attack)
    assert left(bright(), spec, tmp_path / "run") == 0
    attack.write_text(ATTACK.replace("BY * 1", "BY * -1"))
    assert left(bright(), spec, tmp_path / "run") == 1
    attack.write_text(ATTACK)
    assert left(bright(), spec, tmp_path / "run") == 0


def test_what_was_not_edited_is_kept(attack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"own:{attack}:push"
    left(bright(), [spec, "gaussian:std=0.1"], tmp_path / "run")
    attack.write_text(ATTACK.replace("BY * 1", "BY * -1"))
    worked: list[str] = []

    def here(job: Any, cells: Any, done: Callable[[Any], None]) -> None:
        for cell in cells:
            worked.append(job.plan.threats[cell.threat].spec)
            job.work(cell)
            done(cell)

    monkeypatch.setattr(evaluator, "here", here)
    left(bright(), [spec, "gaussian:std=0.1"], tmp_path / "run")
    assert worked == [spec]
    left(bright(), [spec, "gaussian:std=0.1"], tmp_path / "run")
    assert worked == [spec], "a second time there is nothing to do"


@pytest.mark.parametrize("where", ["{}", "net:resnet?classes=2&weights={}/weights.safetensors"], ids=["folder", "file"])
@pytest.mark.parametrize("chained", ["", "gaussian:std=0+"])
def test_a_surrogate_that_was_trained_anew_attacks_anew(where: str, chained: str, tmp_path: Path) -> None:
    folder = tmp_path / "surrogate"
    spec = f"{chained}transfer:eps=0.1,steps=2,diversity=0,surrogates=({where.format(folder)})"

    def losses(seed: int, out: str) -> list[tuple[float]]:
        torch.manual_seed(seed)
        save_model(vallum.load_model("net:resnet?classes=2"), folder)
        run = vallum.evaluate(
            {"net": net}, (IMAGES, LABELS), spec, out=tmp_path / out, progress=False, batch_size=8, pictures=0
        )
        return run.query(f"SELECT loss FROM rows WHERE threat = '{run.plan.threats[-1].spec}' ORDER BY key").fetchall()

    net = bright()
    first, second = losses(0, "run"), losses(1, "run")
    assert first != second
    assert second == losses(1, "fresh")
    assert losses(0, "run") == first


def test_a_surrogate_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "surrogate.py"
    for text, wanted in ((MODEL, 0), (MODEL.replace("1 * (", "-1 * ("), 1), (MODEL, 0)):
        file.write_text(text)
        spec = f"transfer:eps=0.1,steps=3,diversity=0,surrogates=({file}:build)"
        assert left(bright(), spec, tmp_path / "run") == wanted


@pytest.mark.parametrize(
    ("old", "new"),
    [("1 * (", "-1 * ("), ("nn.Identity()", "nn.LeakyReLU(-2.0)"), ("LEFT, RIGHT = -1", "LEFT, RIGHT = 2")],
)
def test_a_model_whose_code_was_edited_is_another(old: str, new: str, tmp_path: Path) -> None:
    """With the same weights."""
    file = tmp_path / "model.py"
    for text, wanted in ((MODEL, 1), (MODEL.replace(old, new), 0)):
        file.write_text(text)
        assert left(f"{file}:build", "gaussian:std=0", tmp_path / "run") == wanted


def test_a_defence_with_another_setting_or_code_is_another(tmp_path: Path) -> None:
    inner = Wrapped(bright(), classes=2)
    assert left(Shifted(inner, 0.0), "gaussian:std=0", tmp_path) == 1
    assert left(Shifted(inner, 0.3), "gaussian:std=0", tmp_path) == 0.5

    class Edited(Shifted):
        def purify(self, images: Tensor) -> Tensor:
            return 1 - images

    Edited.__qualname__ = Shifted.__qualname__
    assert left(Edited(inner, 0.0), "gaussian:std=0", tmp_path) == 0


def test_a_callable_with_another_constant_is_another(tmp_path: Path) -> None:
    def says(cut: float) -> Callable[[Tensor], Tensor]:
        return lambda images: torch.stack([cut - images.mean((1, 2, 3)), images.mean((1, 2, 3)) - cut], 1)

    assert left(vallum.load_model(says(0.5), classes=2), "gaussian:std=0", tmp_path) == 1
    assert left(vallum.load_model(says(0.9), classes=2), "gaussian:std=0", tmp_path) == 0.5
