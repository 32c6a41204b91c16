"""Trade-offs: a knob of a defence at several settings, in one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from vallum.cli import app
from vallum.defences import De3, Defence
from vallum.errors import UserError
from vallum.evaluation import sections
from vallum.evaluation.run import Run
from vallum.evaluation.sweep import read_sweep, sweep
from vallum.models import load_model, save_model
from vallum.models.model import Model, Wrapped
from vallum.report import write_report


class Dimmer(Defence):
    randomised, exact_gradient, stateful = False, True, False
    knobs: ClassVar[Mapping[str, str]] = {"light": "how much is left"}

    def __init__(self, model: Model, light: float = 1.0) -> None:
        super().__init__(model)
        self.light = light

    @property
    def fingerprint(self) -> str:
        return f"light={self.light}"

    def purify(self, images: Tensor) -> Tensor:
        return images * self.light


def bright_or_dark() -> Model:
    """Class 1 where the mean pixel exceeds one half."""
    layer = nn.Linear(192, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([-torch.ones(192), torch.ones(192)]) / 192)
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
    return Wrapped(nn.Sequential(nn.Flatten(), layer), classes=2).eval()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sigma=0:0.5:0.25", ("sigma", [0.0, 0.25, 0.5])),
        ("sigma=0:0.5:0.1", ("sigma", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5])),
        ("sigma=8/255,0.5", ("sigma", [8 / 255, 0.5])),
        ("answer=vote,mean", ("answer", ["vote", "mean"])),
    ],
)
def test_sweeps_as_text(text: str, expected: object) -> None:
    assert read_sweep(text) == expected


@pytest.mark.parametrize("text", ["sigma", "sigma=", "sigma=0:1", "sigma=1:0:0.1", "sigma=0:1:0", "sigma=0:x:1"])
def test_texts_that_are_no_sweep(text: str) -> None:
    with pytest.raises(UserError):
        read_sweep(text)


def test_each_setting_is_a_model_of_one_run_and_the_curve_is_what_was_measured(tmp_path: Path) -> None:
    images = torch.linspace(0.0, 1, 20).view(20, 1, 1, 1).expand(20, 3, 8, 8).contiguous()
    labels = (images.mean((1, 2, 3)) > 0.5).long()
    run = sweep(
        Dimmer(bright_or_dark()), (images, labels), "pgd:eps=0.1,steps=2,random_start=false", "light",
        [1.0, 0.75, 0.5, 0.75], name="dimmer", out=tmp_path, progress=False,
    )  # fmt: skip
    names = ["dimmer, light=1", "dimmer, light=0.75", "dimmer, light=0.5"]
    assert [model.name for model in run.plan.models] == ["dimmer, light=1, undefended", *names]
    (found,) = sections.read(tmp_path)
    assert isinstance(found, sections.Tradeoff)
    assert (found.knob, found.settings, found.chosen) == ("light", (1, 0.75, 0.5), 1)
    curves = {line.name: line.values for line in found.lines}
    values = torch.linspace(0.0, 1, 20)
    for threat, eps in (("clean", 0.0), ("pgd:eps=0.1,steps=2,random_start=false", 0.1)):
        expected = []
        for light in (1.0, 0.75, 0.5):
            moved = torch.where(values > 0.5, values - eps, values + eps).clamp(0, 1) * light
            expected.append(float(((moved > 0.5).long() == (values > 0.5).long()).float().mean()))
        assert curves[threat] == pytest.approx(expected, abs=0.051)  # on the boundary rounding decides
    assert set(curves) >= {"clean", "worst attack"}
    for line in found.lines:
        bounds = zip(line.low, line.values, line.high, strict=True)
        assert all(low <= value <= high for low, value, high in bounds)


def test_a_knob_that_is_not_there(tmp_path: Path) -> None:
    data = (torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))
    for model, said in ((Dimmer(bright_or_dark()), r"light \(how much is left\)"), (bright_or_dark(), "it has none")):
        with pytest.raises(UserError, match=said):
            sweep(model, data, "clean", "sigma", [1.0], out=tmp_path)


def test_sweep_and_certificate_on_the_command_line(tmp_path: Path) -> None:
    text = "noisy_modelling:?model=net:vit?classes=43%26size=16&encoder=small:?size=16x16&decoder=linear&sigma=0.1"
    torch.manual_seed(0)
    made = load_model(text)
    assert isinstance(made, De3)
    save_model(made, tmp_path / "saved")
    torch.manual_seed(0)
    data = ["--data", "builtin:signs", "--size", "16", "-n", "4", "--out", str(tmp_path / "run"), "--quiet"]
    done = CliRunner().invoke(app, [
        "evaluate", str(tmp_path / "saved"), *data, "--sweep", "sigma=0:0.2:0.2", "--threat", "gaussian:std=0.1",
        "--workers", "1", "--draws", "2",
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["certify", str(tmp_path / "saved"), *data, "--draws", "20", "--first", "5"])
    assert done.exit_code == 0, done.output
    curves, proven = sections.read(tmp_path / "run")
    assert isinstance(curves, sections.Tradeoff)
    assert isinstance(proven, sections.Certified)
    assert {line.name for line in curves.lines} >= {"clean", "clean, worst draw", "clean, majority of draws"}
    assert curves.chosen == 0.1
    assert [line.name for line in proven.lines] == ["sigma=0.1"]
    page = write_report(Run(tmp_path / "run"), tmp_path / "page.html").read_text("utf-8")
    assert "Certified accuracy" in page
