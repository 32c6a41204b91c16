"""The 43 signs: each a pile of coloured shapes, the plate at the bottom; and their distances, sampled once for all."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from vallum.data.worlds import sign_glyphs as glyphs
from vallum.data.worlds.shapes import Shape, both, box, disc, mirrored, placed, polygon, regular

Layers = list[tuple[str, Shape]]  # colour and shape, from the plate up; the plate is the sign's outline

COLOURS = {
    "white": (0.93, 0.93, 0.92),
    "red": (0.78, 0.07, 0.11),
    "blue": (0.04, 0.27, 0.66),
    "yellow": (0.98, 0.76, 0.05),
    "black": (0.06, 0.06, 0.07),
    "grey": (0.5, 0.5, 0.5),
    "green": (0.08, 0.55, 0.25),
}

REACH = 1.25  # the sampled square is [-REACH, REACH]; a sign's plate has radius 1
CELLS = 100  # a cell is a third of the thinnest line
NOWHERE = 9.0  # the distance to a layer that a sign does not have


def prohibition(*glyph: tuple[str, Shape]) -> Layers:
    return [("red", disc(0, 0, 1)), ("white", disc(0, 0, 0.77)), *glyph]


def lifted(bars: Shape, *glyph: tuple[str, Shape]) -> Layers:
    """The end of a prohibition: what ends, in grey, struck through."""
    return [("black", disc(0, 0, 1)), ("white", disc(0, 0, 0.94)), *glyph, ("black", both(bars, disc(0, 0, 0.94)))]


def warning(*glyphs: tuple[str, Shape]) -> Layers:
    corners = [(0.0, 0.88), (-0.93, -0.72), (0.93, -0.72)]
    inner = [(0.0, 0.61), (-0.70, -0.59), (0.70, -0.59)]
    return [
        ("red", polygon(corners, 0.1)),
        ("white", polygon(inner, 0.03)),
        *((colour, placed(glyph, 0, -0.18, 0.42)) for colour, glyph in glyphs),
    ]


def command(glyph: Shape) -> Layers:
    return [("white", disc(0, 0, 1)), ("blue", disc(0, 0, 0.94)), ("white", placed(glyph, 0, 0, 0.72))]


def overtaking(left: tuple[str, Shape], right: tuple[str, Shape]) -> list[tuple[str, Shape]]:
    return [(colour, placed(car, x, 0, 0.4)) for x, (colour, car) in zip((-0.36, 0.36), (left, right), strict=True)]


def signs() -> dict[str, Layers]:
    """Every class by name, in the order of their labels."""
    car, lorry = glyphs.car_behind(), glyphs.lorry_behind()
    limits = {
        f"speed limit {digits}": prohibition(("black", glyphs.number(digits)))
        for digits in ("20", "30", "50", "60", "70", "80", "100", "120")
    }
    light = [(colour, disc(0, y, 0.3)) for colour, y in (("red", 0.66), ("yellow", -0.02), ("green", -0.7))]
    three = glyphs.stripes(0.17, 3, 0.1)
    return limits | {
        "end of speed limit 80": lifted(three, ("grey", glyphs.number("80"))),
        "end of all restrictions": lifted(glyphs.stripes(0.16, 5, 0.09)),
        "no overtaking": prohibition(*overtaking(("red", car), ("black", car))),
        "no overtaking by lorries": prohibition(*overtaking(("red", lorry), ("black", car))),
        "end of no overtaking": lifted(three, *overtaking(("grey", car), ("grey", car))),
        "no vehicles": prohibition(),
        "no lorries": prohibition(("black", placed(glyphs.lorry_side(), 0, 0, 0.52))),
        "no entry": [("white", disc(0, 0, 1)), ("red", disc(0, 0, 0.95)), ("white", box(-0.7, -0.17, 0.7, 0.17))],
        "stop": [
            ("white", regular(8, 1.04, 22.5)),
            ("red", regular(8, 0.96, 22.5)),
            ("white", glyphs.text("STOP", 0.24, 0.46, 0.16, 0.12)),
        ],
        "give way": [
            ("red", polygon([(0, -0.88), (-0.93, 0.72), (0.93, 0.72)], 0.1)),
            ("white", polygon([(0, -0.61), (-0.70, 0.59), (0.70, 0.59)], 0.03)),
        ],
        "priority road": [
            ("black", regular(4, 1.08, rounding=0.06)),
            ("white", regular(4, 1.03, rounding=0.05)),
            ("yellow", regular(4, 0.7, rounding=0.03)),
        ],
        "priority at the next crossing": warning(("black", glyphs.crossing_ahead())),
        "danger": warning(("black", glyphs.exclamation())),
        "curve to the left": warning(("black", mirrored(glyphs.curve_right()))),
        "curve to the right": warning(("black", glyphs.curve_right())),
        "double curve": warning(("black", glyphs.double_curve())),
        "bumps": warning(("black", glyphs.bumps())),
        "slippery road": warning(("black", placed(glyphs.slippery(), 0, -0.05, 0.95))),
        "road narrows on the right": warning(("black", glyphs.narrows_right())),
        "road works": warning(("black", glyphs.road_works())),
        "traffic lights": warning(*light),
        "pedestrians": warning(("black", glyphs.pedestrian())),
        "children": warning(("black", glyphs.children())),
        "bicycles": warning(("black", placed(glyphs.bicycle(), 0, -0.1, 1))),
        "snow or ice": warning(("black", placed(glyphs.snowflake(), 0, -0.1, 0.86))),
        "wild animals": warning(("black", placed(glyphs.deer(), 0.08, -0.1, 0.86))),
        "turn right": command(glyphs.turn_right()),
        "turn left": command(mirrored(glyphs.turn_right())),
        "ahead only": command(glyphs.ahead()),
        "ahead or right": command(glyphs.ahead_or_right()),
        "ahead or left": command(mirrored(glyphs.ahead_or_right())),
        "keep right": command(glyphs.keep_right()),
        "keep left": command(mirrored(glyphs.keep_right())),
        "roundabout": command(glyphs.roundabout()),
        "parking": [
            ("white", box(-0.78, -0.78, 0.78, 0.78, 0.12)),
            ("blue", box(-0.74, -0.74, 0.74, 0.74, 0.09)),
            ("white", glyphs.text("P", 0.62, 1.1, 0, 0.24)),
        ],
    }


CLASSES = tuple(signs())


@functools.cache
def atlas() -> tuple[Tensor, Tensor]:
    """Distances (classes * (CELLS + 1)^2, layers) at the corners of the cells, rows from the top; and the layers'
    colours (classes, layers), as places in COLOURS."""
    piles = list(signs().values())
    depth = max(map(len, piles))
    steps = np.linspace(-REACH, REACH, CELLS + 1)
    x, y = np.meshgrid(steps, steps[::-1])
    distances = np.full((len(piles), depth, *x.shape), NOWHERE, np.float32)
    colours = torch.zeros(len(piles), depth, dtype=torch.int64)
    for label, pile in enumerate(piles):
        for layer, (colour, shape) in enumerate(pile):
            distances[label, layer] = shape(x, y)
            colours[label, layer] = list(COLOURS).index(colour)
    return torch.from_numpy(distances).permute(0, 2, 3, 1).reshape(-1, depth).contiguous(), colours
