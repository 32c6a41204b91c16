"""Fiducials: four ArUco markers at the corners of whatever is printed, whose ids say which card and which corner."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from vallum.defences.defensive_patches.printing.drawing import WHITE, Box, Item, runs
from vallum.defences.defensive_patches.printing.refine import refined
from vallum.errors import UserError
from vallum.models.making import need

CELLS = 7  # five cells of code each way, and a black one around them
QUIET = 1.25  # cells of white paper that it needs around it
CARDS = 249  # cards that 1000 ids can tell apart; one more is the colour chart
CHART = CARDS
SMALLEST = 10  # pixels that a marker is wide, at least, to be looked at
LARGEST = 2000  # a photo of more pixels each way is not enlarged for small markers


def squares(left: float, top: float, right: float, bottom: float, side: float) -> list[tuple[float, float]]:
    """The upper left corners of four markers outside the corners of a rectangle, as far off as they need."""
    gap = side * QUIET / CELLS
    xs, ys = (left - gap - side, right + gap), (top - gap - side, bottom + gap)
    return [(xs[0], ys[0]), (xs[1], ys[0]), (xs[1], ys[1]), (xs[0], ys[1])]  # clockwise from the upper left


def drawn(card: int, corner: int, left: float, top: float, side: float) -> Iterator[Item]:
    """A marker as black and white boxes."""
    yield Box(left, top, side, side)
    cell = side / CELLS
    for row, cells in enumerate(_cells(4 * card + corner)):
        for start, end in runs(cells):
            yield Box(left + start * cell, top + row * cell, (end - start) * cell, cell, WHITE)


def corners(left: float, top: float, side: float) -> np.ndarray:
    """(4, 2): the corners of a marker in the order in which `seen` gives them, clockwise from the upper left."""
    return np.array([(left, top), (left + side, top), (left + side, top + side), (left, top + side)])


def seen(grey: np.ndarray) -> dict[tuple[int, int], list[np.ndarray]]:
    """The markers in a photo (H, W) uint8, by card and corner: where each one's corners are, (4, 2) as (x, y).

    Places are those of pixel edges: the photo's corner is (0, 0). A marker that is there twice has two entries.
    """
    placed: dict[tuple[int, int], list[np.ndarray]] = {}
    for marker, near in _detected(grey):
        placed.setdefault(divmod(marker, 4), []).append(refined(grey, _cells(marker), near))
    return placed


def _detected(grey: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each marker's id and where its corners are, to a pixel or so."""
    aruco = _aruco()
    settings = aruco.DetectorParameters()
    settings.minMarkerPerimeterRate = 4 * SMALLEST / max(grey.shape)
    settings.cornerRefinementMethod = aruco.CORNER_REFINE_SUBPIX
    detector = aruco.ArucoDetector(_dictionary(), settings)
    found: list[tuple[int, np.ndarray]] = []
    # The detector thresholds whole pixels: small markers are found in an enlarged photo that it misses in the photo.
    for zoom in (1, 2) if max(grey.shape) <= LARGEST else (1,):
        large = np.asarray(Image.fromarray(grey).resize((grey.shape[1] * zoom, grey.shape[0] * zoom)))
        places, ids, _ = detector.detectMarkers(large)
        known = {marker for marker, _ in found}
        for place, marker in zip(places, [] if ids is None else np.ravel(ids).tolist(), strict=True):
            if marker not in known:
                found.append((marker, (np.asarray(place, np.float64).reshape(4, 2) + 0.5) / zoom))
    return found


def check_card(number: int) -> None:
    if not 0 <= number < CARDS:
        raise UserError(
            f"card {number} has no fiducials", f"they tell {CARDS} cards apart", "print fewer at once: --classes"
        )


@cache
def _cells(marker: int) -> np.ndarray:
    """(7, 7): true where it is white."""
    return np.asarray(_aruco().generateImageMarker(_dictionary(), marker, CELLS)) > 127


def _dictionary() -> Any:
    return _aruco().getPredefinedDictionary(_aruco().DICT_5X5_1000)


def _aruco() -> Any:
    return need("cv2", extra="patches").aruco
