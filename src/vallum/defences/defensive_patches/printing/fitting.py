"""A model of printer and camera from a photographed colour chart: read its cells, even out the light, choose, fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from vallum.defences.defensive_patches.printing.chart import Chart
from vallum.defences.defensive_patches.printing.photos import read_photo
from vallum.defences.defensive_patches.printing.printer import DARKEST, PrinterCamera, products
from vallum.defences.defensive_patches.printing.rectify import find_cards
from vallum.defences.defensive_patches.printing.sheet import Sheet
from vallum.errors import UserError

DOTS = 10  # of a cell, each way, in the straightened photo
INNER = slice(3, 7)  # of which these are looked at: edges bleed
FOLDS = 5
FORMS = ((1, False), (1, True), (2, False), (2, True), (3, False))  # degree, and whether powers are fitted too
WORTH = 0.97  # a larger model must leave less than this share of a smaller one's error


@dataclass(frozen=True, eq=False)
class Fitted:
    printer: PrinterCamera
    error: float  # root mean square over colours that were held out, on the scale of [0, 1]
    errors: dict[str, float]  # of each form that was tried
    cells: int
    uneven: float  # how many times brighter the brightest part of the page was than the darkest


def fit_printer(chart: str | Path, photos: Sequence[Path]) -> Fitted:
    """The model that foretells held-out cells best; `chart` is the folder of `vallum patch chart`.

    Several photos, of one print under the same light, are averaged: their noise is not part of the model.
    """
    sheet = Sheet.load(chart)
    colours = Chart.of(sheet)
    read = [read_chart(read_photo(photo), colours, sheet, str(photo)) for photo in photos]
    cells = torch.stack([cells for cells, _ in read]).mean(0).numpy()[~colours.white]
    # A colour that fills several cells is one colour, or it would be foretold from itself.
    sent, where = np.unique(colours.colours[~colours.white], axis=0, return_inverse=True)
    seen = np.stack([np.bincount(where.ravel(), cells[:, c]) / np.bincount(where.ravel()) for c in range(3)], 1)
    return fitted(torch.from_numpy(sent / 255), torch.from_numpy(seen), max(uneven for _, uneven in read))


def fitted(sent: Tensor, seen: Tensor, uneven: float = 1.0) -> Fitted:
    """From colours (N, 3) that were sent to those (N, 3) that were seen, both in [0, 1]."""
    errors: dict[str, float] = {}
    best, error = PrinterCamera(torch.ones(3), torch.ones(4, 3), torch.ones(3)), math.inf
    # Steps by the golden ratio, so that no fold is all of one channel's darkest or brightest colours.
    fold = (torch.arange(len(sent)) * 0.6180339887 % 1 * FOLDS).long()
    for form in FORMS:
        whole, squares = _fit(sent, seen, *form), 0.0
        for out in range(FOLDS):
            model = _fit(sent[fold != out], seen[fold != out], *form, whole)  # it begins nearby, and forgets the rest
            squares += float((_apply(model, sent[fold == out]) - seen[fold == out]).square().sum())
        held_out = math.sqrt(squares / seen.numel())
        errors[f"degree {form[0]}" + (" with powers" if form[1] else "")] = held_out
        if held_out < WORTH * error:
            best, error = whole, held_out
    return Fitted(best, error, errors, len(sent), uneven)


def read_chart(photo: Tensor, chart: Chart, sheet: Sheet, where: str = "the photo") -> tuple[Tensor, float]:
    """(cells, 3): what the photo (3, H, W) shows in each cell under even light, and how uneven the light was."""
    found, why = find_cards(photo, sheet)
    if not found:
        raise UserError(f"{where} shows no colour chart", "; ".join(why), "photograph the whole page, from the front")
    straight = found[0].crop(photo, sheet, (chart.rows * DOTS, chart.columns * DOTS))
    cells = straight.unflatten(1, (chart.rows, DOTS)).unflatten(3, (chart.columns, DOTS))  # (3, R, D, C, D)
    cells = cells[:, :, INNER, :, INNER].flatten(1).unflatten(1, (chart.rows, 4, chart.columns, 4))
    seen = cells.double().mean((2, 4)).flatten(1).T  # (cells, 3)
    white = seen[torch.from_numpy(chart.white)]
    if float((white > 0.995).double().mean()) > 0.1:
        raise UserError(f"{where} is overexposed", "its white cells are at the camera's limit", "expose it less")
    return _evened(seen, chart)


def _evened(seen: Tensor, chart: Chart) -> tuple[Tensor, float]:
    """Divided by the light, a smooth surface through what the white cells reflect; its mean stays what it was."""
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, chart.rows).double(), torch.linspace(-1, 1, chart.columns).double(), indexing="ij"
    )
    r, c = rows.flatten(), columns.flatten()
    surface = torch.stack([torch.ones_like(r), r, c, r * r, r * c, c * c], 1)  # (cells, 6)
    light = _linear(seen)
    white = torch.from_numpy(chart.white)
    level = light[white].mean(1).clamp_min(1e-6).log()
    field = surface @ torch.linalg.lstsq(surface[white], level[:, None]).solution  # (cells, 1), its logarithm
    field = field - field.mean()
    return _encoded(light / field.exp()).clamp(0, 1), float((field.max() - field.min()).exp())


def _fit(sent: Tensor, seen: Tensor, degree: int, powers: bool, near: PrinterCamera | None = None) -> PrinterCamera:
    def linear(before: Tensor, after: Tensor) -> Tensor:
        columns = products(sent.clamp_min(DARKEST) ** before, degree)
        return torch.linalg.lstsq(columns, seen.clamp_min(DARKEST) ** after).solution

    ones = torch.ones(3).double()
    if not powers:
        return PrinterCamera(ones, linear(ones, ones), ones)

    def left(numbers: np.ndarray) -> np.ndarray:
        model = _unpacked(numbers)
        return np.asarray((_apply(model, sent) - seen).flatten())

    start = 2.2 * ones
    first = np.concatenate([start, linear(start, start).flatten(), start])
    if near is not None:
        first = np.concatenate([near.before.double(), near.weights.double().flatten(), near.after.double()])
    low, high = np.full(len(first), -np.inf), np.full(len(first), np.inf)
    low[:3] = low[-3:] = 0.3
    high[:3] = high[-3:] = 4
    found = least_squares(left, first, bounds=(low, high), x_scale="jac", max_nfev=60)
    return PrinterCamera(*_unpacked(found.x))


def _unpacked(numbers: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    values = torch.from_numpy(np.asarray(numbers, np.float64))
    return values[:3], values[3:-3].view(-1, 3), values[-3:]


def _apply(model: PrinterCamera | tuple[Tensor, Tensor, Tensor], sent: Tensor) -> Tensor:
    """(N, 3) to (N, 3), in double precision."""
    before, weights, after = (
        model if isinstance(model, tuple) else (model.before.double(), model.weights.double(), model.after.double())
    )
    degree = {4: 1, 10: 2, 20: 3}[len(weights)]
    return (products(sent.clamp_min(DARKEST) ** before, degree) @ weights).clamp(DARKEST, 1) ** (1 / after)


def _linear(colours: Tensor) -> Tensor:
    """sRGB to light."""
    return torch.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _encoded(light: Tensor) -> Tensor:
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-9) ** (1 / 2.4) - 0.055)
