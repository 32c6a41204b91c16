"""A printer that is known, made of ink on paper, is learnt from a photograph of the chart that it printed."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
import torch
from patch_toys import toy_data
from photographer import Scene
from PIL import Image
from torch import Tensor

from command_line import command
from vallum.defences.defensive_patches.make import make_patches
from vallum.defences.defensive_patches.printing.chart import Chart, print_chart
from vallum.defences.defensive_patches.printing.fitting import Fitted, fitted, read_chart
from vallum.defences.defensive_patches.printing.png import raster
from vallum.defences.defensive_patches.printing.printer import PrinterCamera, load_printer
from vallum.errors import UserError
from vallum.models import Model

# What each overprint of cyan, magenta and yellow reflects of red, green and blue light: none, c, m, y, cm, cy, my, cmy.
_INKS = torch.tensor([
    [0.86, 0.87, 0.84], [0.08, 0.34, 0.62], [0.58, 0.07, 0.20], [0.80, 0.70, 0.09],
    [0.06, 0.05, 0.28], [0.05, 0.27, 0.10], [0.52, 0.06, 0.05], [0.03, 0.03, 0.03],
])  # fmt: skip
_OVERPRINTS = [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
_CAMERA = torch.tensor([[0.90, 0.07, 0.01], [0.05, 0.92, 0.06], [0.02, 0.10, 0.80]])


def ink(colours: Tensor) -> Tensor:
    """(N, 3) to (N, 3): Neugebauer's mixture of halftones whose dots have grown, seen by a camera in warm light.

    Nothing in it has the form of the model that is fitted.
    """
    dots = 1 - colours.double()
    dots = dots + 4 * 0.15 * dots * (1 - dots)  # dot gain
    light = torch.zeros_like(dots)
    for inks, reflected in zip(_OVERPRINTS, _INKS.double(), strict=True):
        share = torch.ones_like(dots[:, 0])
        for which in range(3):
            share = share * (dots[:, which] if which in inks else 1 - dots[:, which])
        light = light + share[:, None] * reflected
    seen = light @ _CAMERA.double().T
    return seen ** (1 / 2.2)


def random_colours(count: int = 2000) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(5)).double()


def rms(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).square().mean().sqrt())


def through(model: PrinterCamera, colours: Tensor) -> Tensor:
    return model(colours.float().T[None, :, :, None])[0, :, :, 0].T


@pytest.fixture(scope="module")
def photo() -> tuple[Chart, Tensor]:
    """The chart as that printer prints it, photographed from the side in uneven light."""
    chart = Chart(6, (210, 297))
    block = chart.block()
    dots = 4.0
    picture = raster(block.drawing, block.bounds, dots).convert("RGB")
    flat = torch.from_numpy(np.asarray(picture).reshape(-1, 3).copy())
    known, where = torch.unique(flat, dim=0, return_inverse=True)
    printed = ink(known / 255).clamp(0, 1)[where].reshape(picture.height, picture.width, 3)
    pixels = Image.fromarray((printed * 255).round().byte().numpy()).convert("RGBA")
    scene = Scene(yaw=12, pitch=-6, roll=2, wide=700, width=1000, height=1300, gradient=0.0, quality=92, noise=0.01)
    return chart, scene.photograph(pixels, block.bounds, dots)


def test_a_printer_of_the_models_own_form_is_recovered() -> None:
    sent = random_colours(300)
    weights = torch.tensor([[0.02, 0.03, 0.02], [0.7, 0.08, 0.01], [0.06, 0.72, 0.1], [0.02, 0.05, 0.6]])
    true = PrinterCamera(torch.tensor([1.8, 2.0, 2.3]), weights, torch.tensor([2.2, 2.1, 2.4]))
    found = fitted(sent, through(true, sent).double())
    assert found.error < 1e-4
    assert found.errors["degree 1 with powers"] < 1e-3 < found.errors["degree 1"]
    fresh = random_colours(3000)[300:]
    assert rms(through(found.printer, fresh), through(true, fresh)) < 1e-3


@pytest.fixture(scope="module")
def inkjet() -> Fitted:
    sent = torch.from_numpy(np.unique(Chart(6, (210, 297)).colours, axis=0)).double() / 255
    assert len(sent) == 216
    return fitted(sent, ink(sent))


def test_an_inkjet_is_learnt_from_its_chart_alone(inkjet: Fitted) -> None:
    found = inkjet
    fresh = random_colours()
    error = rms(through(found.printer, fresh), ink(fresh))
    assert error < 0.003
    assert rms(fresh, ink(fresh)) > 8 * error  # what ignoring the printer would cost
    assert found.error == pytest.approx(error, rel=1.0)  # what it says of itself is of that size


def test_an_inkjet_is_learnt_from_a_photograph(photo: tuple[Chart, Tensor]) -> None:
    chart, shot = photo
    seen, uneven = read_chart(shot, chart, chart.described())
    true = ink(torch.from_numpy(chart.colours) / 255)
    assert rms(seen, true) < 0.004
    assert uneven < 1.1
    colours = ~torch.from_numpy(chart.white)
    found = fitted(torch.from_numpy(chart.colours).double()[colours] / 255, seen[colours])
    fresh = random_colours()
    assert rms(through(found.printer, fresh), ink(fresh)) < 0.004


def test_uneven_light_is_taken_out(photo: tuple[Chart, Tensor]) -> None:
    chart, shot = photo
    height, width = shot.shape[1:]
    light = torch.linspace(1, 0.5, width) * torch.linspace(0.8, 1, height)[:, None]
    darker = (shot**2.2 * light) ** (1 / 2.2)
    seen, uneven = read_chart(darker, chart, chart.described())
    true = ink(torch.from_numpy(chart.colours) / 255)
    assert uneven > 1.4
    flat = (seen / true)[true.min(1).values > 0.2]  # evened out to one brightness: the mean of the light
    assert float(flat.std() / flat.mean()) < 0.02


def test_gradients_pass_and_colours_stay_colours(inkjet: Fitted) -> None:
    found = inkjet.printer
    colours = random_colours(40).float().T.reshape(3, 2, 4, 5).transpose(0, 1) * 0.9 + 0.05
    colours = colours.contiguous().requires_grad_()
    seen = found(colours)
    assert seen.shape == colours.shape
    assert 0 <= float(seen.detach().min()) <= float(seen.detach().max()) <= 1
    seen.sum().backward()
    assert colours.grad is not None
    assert bool(torch.isfinite(colours.grad).all())
    assert float(colours.grad.abs().min()) > 0
    assert bool(torch.isfinite(found(torch.tensor([0.0, 1.0]).repeat(1, 3, 1, 1))).all())


def test_patches_are_made_for_a_learnt_printer(inkjet: Fitted, toy_nets: list[Model]) -> None:
    settings = {"shape": "ring:outer=14,inner=10", "steps": 2, "batch_size": 24, "quiet": True, "start": "noise"}
    printed, plain = (
        make_patches(toy_nets, toy_data(), printer=printer, **settings) for printer in (inkjet.printer, None)
    )
    assert printed.made["printer"] != plain.made["printer"] == "none"
    assert not bool((printed.patches == plain.patches).all())


def test_a_printer_is_saved_and_loaded(inkjet: Fitted, tmp_path: Path) -> None:
    found = inkjet
    loaded = load_printer(found.printer.save(tmp_path / "printer", error=found.error))
    colours = torch.rand(1, 3, 8, 8)
    assert bool((loaded(colours) == found.printer(colours)).all())
    with pytest.raises(UserError, match="holds no printer"):
        load_printer(tmp_path)


def test_the_chart_prints_its_colours(tmp_path: Path) -> None:
    path, chart = print_chart(tmp_path, levels=5)
    with pypdfium2.PdfDocument(path) as pdf:
        shown = np.asarray(pdf[0].render(scale=4 * 25.4 / 72).to_pil().convert("RGB"))
    placed = chart.page().placed[0]
    middles = [(np.arange(count) + 0.5) * chart.cell for count in (chart.rows, chart.columns)]
    rows, columns = np.meshgrid(*middles, indexing="ij")
    seen = shown[((rows + placed.y) * 4).astype(int), ((columns + placed.x) * 4).astype(int)].reshape(-1, 3)
    assert (seen == chart.colours).all()
    steps = np.rint(np.linspace(0, 255, 5)).astype(int).tolist()
    assert set(map(tuple, chart.colours.tolist())) >= set(itertools.product(steps, repeat=3))


def test_the_commands_go_together(photo: tuple[Chart, Tensor], tmp_path: Path) -> None:
    said = command("patch", "chart", "--levels", 6, "--out", tmp_path / "chart")
    assert said.code == 0, said.err
    pixels = (photo[1] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "shot.png")
    said = command("patch", "fit-printer", tmp_path / "chart", tmp_path / "shot.png", "--out", tmp_path / "printer")
    assert said.code == 0, said.err
    assert "216 colours, off by" in said.out
    fresh = random_colours()
    assert rms(through(load_printer(tmp_path / "printer"), fresh), ink(fresh)) < 0.004
    Image.new("RGB", (300, 300), (90, 90, 90)).save(tmp_path / "grey.png")
    out = tmp_path / "none"
    command("patch", "fit-printer", tmp_path / "chart", tmp_path / "grey.png", "--out", out).refuses("no colour chart")
    command("patch", "chart", "--levels", 12, "--page", "a6", "--out", out).refuses("larger paper")
