"""How each kind of surface looks: from where its samples lie to their colours, in linear light.

A painter gets `Points` and returns albedos (3, n). This file has what stands; the ground and the houses are beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds.street_facades import facade
from vallum.data.worlds.street_ground import road, slab
from vallum.data.worlds.street_solids import BACK, BOTTOM, FRONT, LEFT, RIGHT, TOP
from vallum.data.worlds.street_surfaces import F, Points, between, cover, mix, within
from vallum.data.worlds.street_texture import noise


def plain(points: Points) -> np.ndarray:
    return points.colour()


def leaves(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    # Seen along x and along z: where one of them is drawn out the other is not.
    x, z = points.x + scene.seed.take(row) * 9, points.z + scene.seed.take(row) * 5
    fine = (noise(x, points.y, 20) + noise(z, points.y + x * F(0.3), 20)) * F(0.7) / (1 + points.footprint * F(5))
    coarse = (noise(x, points.y, 6) + noise(z, points.y, 6)) * F(0.7)
    low, tall = scene.pattern[0].take(row), scene.pattern[1].take(row)
    share = within((points.y - low) / np.maximum(tall - low, F(0.1)), 0, 1)
    dark = (F(0.55) + F(0.6) * share) * within(1 + F(0.42) * fine + F(0.3) * coarse, 0.12, 2.4)
    colour = points.colour() * dark
    colour[0] *= 1 + F(0.10) * coarse
    return colour


def car_body(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    side, a, y = points.side, points.middle, points.y
    wheels, half_w, _, waist = scene.pattern.take(row, 1)
    fine = points.footprint * points.slant
    flank = (side == LEFT) | (side == RIGHT)
    end = (side == FRONT) | (side == BACK)
    colour = points.colour() * np.where(flank, 1 - F(0.35) * between(y, 0, 0.33, points.footprint), 1)
    lines = between(np.abs(a - F(0.12)), 0.6, 0.63, fine) * (flank & (y > F(0.3)))
    colour = colour * (1 - F(0.5) * lines)
    from_hub = np.hypot(np.abs(a) - wheels, y - F(0.31))
    colour = mix(colour, 0.012, cover(F(0.36) - from_hub, points.footprint) * flank)
    colour = mix(colour, 0.28, cover(F(0.19) - from_hub, points.footprint) * flank)
    colour = mix(colour, 0.02, between(y, 0, 0.36, points.footprint) * F(0.7) * end)
    height = waist - F(0.16)
    lamp = between(np.abs(a), half_w * F(0.58), half_w * F(0.95), fine)
    lamp = lamp * between(y, height - F(0.15), height, points.footprint)
    bright = np.where(side == FRONT, np.array([0.75, 0.75, 0.7], F)[:, None], np.array([0.42, 0.006, 0.01], F)[:, None])
    colour = mix(colour, bright, lamp * end)
    grill = cover(half_w * F(0.5) - np.abs(a), fine) * between(y, 0.48, 0.62, points.footprint) * (side == FRONT)
    colour = mix(colour, 0.015, grill)
    plate = cover(F(0.26) - np.abs(a), fine) * between(y, 0.37, 0.49, points.footprint) * end
    return mix(colour, 0.62, plate)


def car_cabin(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    side, a = points.side, points.middle
    high = scene.pattern[0].take(row)
    rise = points.y - scene.y0.take(row)
    half = scene.length.take(points.surface) * F(0.5)
    low, far = scene.lean.take(points.surface, 1)
    along = points.along
    inside = np.minimum(along - low * rise, 2 * half - far * rise - along)
    fine = points.footprint * points.slant
    pane = cover(inside - F(0.07), fine) * between(rise, 0.04, high * F(0.86), points.footprint) * (side < TOP)
    flank = (side == LEFT) | (side == RIGHT)
    pillar = cover(F(0.045) - np.abs(a - F(0.05)), fine) * flank
    pane = pane * (1 - pillar)
    shine = F(0.5) + F(0.9) * rise / high
    glass = np.array([0.035, 0.043, 0.05], F)[:, None] * shine + scene.light.haze.astype(F)[:, None] * F(0.05) * shine
    glass = np.where(side == FRONT, glass * F(1.5), glass)
    return mix(points.colour(), glass, pane)


def sign(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    kind, size, high, _ = scene.pattern.take(row, 1)
    side = points.side
    a = points.middle
    up = (points.y - high) / size
    fine = points.footprint
    rim, face = points.colour(), scene.second.take(row, 1)
    black = F(0.02)
    across = np.abs(a) / size
    reach = np.hypot(across, up - F(0.5)) * size
    disc = mix(rim, face, cover(F(0.35) * size - reach, fine))
    digits = cover((F(0.09) - np.abs(across - F(0.13))) * size, fine) * between(up, 0.32, 0.68, fine / size)
    disc = mix(disc, black, digits * (kind == 0))
    bar = cover((F(0.36) - across) * size, fine) * between(up, 0.4, 0.6, fine / size)
    disc = mix(disc, 0.8, bar * (kind == 4))
    arrow = np.maximum(cover((F(0.06) - across) * size, fine) * between(up, 0.2, 0.75, fine / size), 0)
    disc = mix(disc, 0.8, arrow * (kind == 2))
    edge = np.minimum((F(0.55) * (1 - up / F(0.9)) - across) * size * F(0.85), (up - 0) * size)
    three = mix(rim, face, cover(edge - F(0.09) * size, fine))
    mark = cover((F(0.05) - across) * size, fine) * between(up, 0.18, 0.5, fine / size)
    three = mix(three, black, mark)
    frame = np.minimum((F(0.62) - across) * size, np.minimum(up, F(0.75) - up) * size)
    board = mix(rim, 0.8, between(frame, 0.02, 0.05, fine))
    lines = between(np.abs(up - F(0.38)), 0.08, 0.2, fine / size) * cover((F(0.42) - across) * size, fine)
    board = mix(board, 0.75, lines)
    colour = np.where(kind == 1, three, np.where(kind == 3, board, disc))
    return np.where((side == BACK) | (side == BOTTOM), F(0.28), colour)


def fence(points: Points) -> np.ndarray:
    step = points.along * F(1 / 0.24)
    fine = points.footprint * points.slant * F(1 / 0.24)
    gap = cover(np.abs(step - np.round(step)) - F(0.3), fine)
    rail = np.maximum(*(between(points.y, low, low + 0.12, points.footprint) for low in (0.25, 0.65)))
    flat = points.side >= TOP
    solid = points.scene.seed.take(points.row) > F(0.55)  # a wall
    rough = 1 + F(0.1) * noise(points.along, points.y, 25) / (1 + points.footprint * F(20))
    return points.colour() * rough * (1 - F(0.75) * gap * (1 - rail) * ~(flat | solid))


def tiles(points: Points) -> np.ndarray:
    along, up = points.along, points.y
    rows = up * F(1 / 0.33)
    line = within(1 - np.abs(rows - np.round(rows)) * 4, 0, 1) * within(F(0.08) / points.footprint, 0, 1)
    gable = (points.side == FRONT) | (points.side == BACK)
    shade = 1 + F(0.14) * noise(along, up, 12) - F(0.3) * line * ~gable
    colour = points.colour() * shade
    return np.where(gable, colour * F(1.25), colour)


def lamps(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    lit, high = scene.pattern[0].take(row), scene.pattern[1].take(row)
    side = points.side
    colour = points.colour()
    glow = np.array([(0.03, 0.9, 0.35), (1.2, 0.55, 0.02), (1.3, 0.03, 0.02)], F)
    for number in range(3):
        reach = np.hypot(points.middle, points.y - high - F(0.16 + 0.31 * number))
        bright = np.where(lit == number, F(1.3), F(0.06))
        disc = cover(F(0.115) - reach, points.footprint) * (side == FRONT)
        colour = mix(colour, glow[number][:, None] * bright, disc)
    return colour


PAINTERS: dict[int, Callable[[Points], np.ndarray]] = {
    paints.GROUND: road,
    paints.SLAB: slab,
    paints.FACADE: facade,
    paints.PLAIN: plain,
    paints.LEAVES: leaves,
    paints.CAR_BODY: car_body,
    paints.CAR_CABIN: car_cabin,
    paints.SIGN: sign,
    paints.FENCE: fence,
    paints.TILES: tiles,
    paints.LAMPS: lamps,
}
