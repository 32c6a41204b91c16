"""How each kind of surface looks: from where its samples lie to their colours, in linear light.

A painter gets `Points` and returns albedos (3, n). Patterns are as sharp as a sample allows and no sharper: an edge is
as wide as the sample's footprint on the surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_light import Light
from vallum.data.worlds.street_solids import BACK, BOTTOM, FRONT, LEFT, RIGHT, TOP
from vallum.data.worlds.street_texture import chance, noise

F = np.float32


@dataclass(frozen=True)
class Scene:
    """What painters know of everything: tables by surface, as ids number them."""

    city: City
    light: Light
    colour: np.ndarray  # (3, rows)
    second: np.ndarray  # (3, rows)
    pattern: np.ndarray  # (4, rows)
    seed: np.ndarray  # (rows,)
    y0: np.ndarray
    y1: np.ndarray
    side: np.ndarray  # (rows * FACES,) the face's name in the solid's own axes
    begin: np.ndarray  # where the face begins along itself
    length: np.ndarray
    lean: np.ndarray  # (2, rows * FACES) how its two edges lean in
    along_x: np.ndarray  # whether x is the coordinate along the face, else z
    flip: np.ndarray  # -1 where that runs against the solid's own axis


@dataclass(frozen=True)
class Points:
    """Samples of one paint."""

    scene: Scene
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    row: np.ndarray
    surface: np.ndarray
    footprint: np.ndarray  # metres between samples on a surface that faces the camera
    slant: np.ndarray  # by how much more that is along a surface that does not

    def colour(self) -> np.ndarray:
        return self.scene.colour[:, self.row]

    def along(self) -> np.ndarray:
        """Metres along the face from where it begins."""
        line = np.where(self.scene.along_x[self.surface], self.x, self.z)
        return line - self.scene.begin[self.surface]

    def middle(self) -> np.ndarray:
        """Metres along the face from its middle, in the solid's own direction."""
        return (self.along() - self.scene.length[self.surface] * F(0.5)) * self.scene.flip[self.surface]


def cover(inside: np.ndarray, footprint: np.ndarray | float) -> np.ndarray:
    """The share of a sample within an edge, from the distance inside it."""
    return np.clip(inside / footprint + F(0.5), 0, 1)


def between(value: np.ndarray, low: float | np.ndarray, high: float | np.ndarray, footprint: np.ndarray) -> np.ndarray:
    return cover(np.minimum(value - low, high - value), footprint)


def mix(one: np.ndarray, other: np.ndarray | tuple[float, ...] | float, amount: np.ndarray) -> np.ndarray:
    if isinstance(other, tuple):
        other = np.array(other, F)[:, None]
    return one + (other - one) * amount


def road(points: Points) -> np.ndarray:
    city, wet = points.scene.city, points.scene.light.wet
    x, z = points.x, points.z
    px = x - np.round(x / F(city.pitch_x)) * F(city.pitch_x)
    pz = z - np.round(z / F(city.pitch_z)) * F(city.pitch_z)
    half = F(city.road)
    lengthwise = np.abs(px) < half  # a street along z
    across = np.where(lengthwise, px, pz)
    away = np.abs(np.where(lengthwise, pz, px))  # from the crossing's middle
    along = np.where(lengthwise, z, x)
    fine_across = points.footprint * np.where(lengthwise, 1, points.slant)
    fine_along = points.footprint * np.where(lengthwise, points.slant, 1)
    grain = noise(x, z, 40) / (1 + points.footprint * F(20))
    worn = noise(x, z, 3.1)
    grey = F(0.105) * (1 + F(0.16) * grain + F(0.13) * worn)
    lane = np.abs(np.abs(across) - F(city.lane))
    grey = grey * (1 - F(0.12) * np.clip(1 - np.abs(lane - F(0.7)) * F(2.2), 0, 1))  # where wheels roll
    patch = noise(x + 37, z * F(0.5), 1.7) > 1.5
    grey = np.where(patch, grey * F(0.72), grey)
    paint = cover(F(0.075) - np.abs(across), fine_across)
    step = along / F(6)
    dash = np.abs(step - np.floor(step) - F(0.5)) * F(6)
    paint = paint * cover(F(1.5) - dash, fine_along) * cover(away - half - F(5), fine_along)
    edge = np.abs(np.abs(across) - (half - F(city.parking)))
    paint = np.maximum(paint, cover(F(0.055) - edge, fine_across) * cover(away - half - F(7), fine_along) * F(0.85))
    stripe = across * F(0.9)
    zebra = cover((F(0.25) - np.abs(stripe - np.floor(stripe) - F(0.5))) * F(1.1), fine_across)
    zebra = zebra * between(away, half + F(0.7), half + F(3.3), fine_along) * (np.abs(across) < half - F(0.3))
    stop = between(away, half + F(4.2), half + F(4.6), fine_along)
    stop = stop * between(np.abs(across), F(0.15), half - F(city.parking), fine_across)
    paint = np.maximum(paint, np.maximum(zebra, stop)) * (F(0.82) + F(0.12) * worn).clip(0.35, 1)
    gutter = cover(np.abs(across) - half + F(0.35), fine_across) * cover(away - half, fine_along)
    grey = grey * (1 + F(0.25) * gutter)
    grey = grey * F(1 - 0.4 * wet)
    grey = grey + (F(0.62) - grey) * paint
    tint = np.array([1.0, 0.985, 0.96], F)[:, None]
    return tint * grey


def slab(points: Points) -> np.ndarray:
    """Pavement along the edges, gardens and yards within; kerb stones around."""
    scene = points.scene
    edge = from_kerb(scene.city, points.x, points.z)
    grain = noise(points.x, points.z, 40) / (1 + points.footprint * F(25))
    coarse = noise(points.x, points.z, 2.3)
    colour = points.colour() * (1 + F(0.10) * grain + F(0.09) * coarse)
    joints = np.zeros_like(points.x)
    wide = points.footprint * np.sqrt(points.slant)
    for place in (points.x, points.z):
        tiles = place * F(1 / 0.6)
        joints = np.maximum(joints, np.clip((F(0.02) + F(0.4) * wide - np.abs(tiles - np.round(tiles)) * F(0.6)) / wide, 0, 1))
    joints = joints * np.clip(F(0.05) / wide, 0, 1)
    colour = colour * (1 - F(0.35) * joints)
    kerb = cover(F(0.16) - edge, points.footprint)
    colour = mix(colour, 0.42, kerb * F(0.8))
    grass = np.array([0.095, 0.15, 0.035], F)[:, None] * (1 + F(0.35) * grain + F(0.28) * coarse)
    grass = mix(grass, (0.22, 0.17, 0.10), np.clip(coarse - F(0.7), 0, 1))
    colour = mix(colour, grass, cover(edge - scene.pattern[0, points.row], points.footprint))
    front = points.surface % 8 < TOP
    return np.where(front, np.array([0.27, 0.265, 0.25], F)[:, None] * (1 + F(0.1) * coarse), colour) * F(
        1 - 0.25 * scene.light.wet
    )


def from_kerb(city: City, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Metres from the nearest edge of the block."""
    px = np.abs(x - np.round(x / F(city.pitch_x)) * F(city.pitch_x))
    pz = np.abs(z - np.round(z / F(city.pitch_z)) * F(city.pitch_z))
    return np.minimum(px, pz) - F(city.road)


def facade(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    side = scene.side[points.surface]
    bay, storey, wide, high = scene.pattern[:, row]
    seed = scene.seed[row]
    shop = (seed - np.floor(seed * F(0.5)) * 2) > F(0.5)
    length = scene.length[points.surface]
    bay = length / np.maximum(np.round(length / bay), 1)
    fine_u, fine_v = points.footprint * points.slant, points.footprint
    along, up = points.along(), points.y
    u, v = along / bay, up / storey
    cell, floor = np.floor(u), np.floor(v)
    du, dv = np.abs(u - cell - F(0.5)) * bay, (v - floor - F(0.5)) * storey
    luck = chance(cell + 31, floor + 17, seed)
    colour = points.colour()
    coarse = noise(along + seed * 3, up, 3.7)
    grain = noise(along + seed * 7, up * F(1.7), 34) / (1 + fine_u * F(25))
    shade = 1 + F(0.07) * coarse + F(0.08) * grain
    shade = shade * (1 - F(0.3) * np.clip(1 - up * F(0.9), 0, 1))
    top = scene.y1[row] - up
    cornice = between(top, 0.05, 0.42, fine_v)
    shade = shade * (1 + F(0.22) * cornice) * (1 - F(0.35) * between(top, 0.42, 0.56, fine_v))
    ledge = between(v - floor, 0.0, 0.045, fine_v / storey) * (floor > 0) * (luck >= 0)
    shade = shade * (1 + F(0.14) * ledge)
    colour = colour * shade
    trim = np.where(shop, F(0.55), scene.second[:, row])
    street = (side == RIGHT) | (side == LEFT)  # of the house's own: its front and its back
    open_side = street | (chance(seed, side + 3) > F(0.45))  # else a wall without windows
    fits = open_side & (top > storey * F(0.35))
    half_w, half_h = wide * bay * F(0.5), high * storey * F(0.5)
    from_edge = np.minimum(half_w - du, half_h - np.abs(dv + F(0.05)))
    fine = np.sqrt(fine_u * fine_v)
    frame = np.minimum(cover(half_w + F(0.1) - du, fine_u), cover(half_h + F(0.1) - np.abs(dv + F(0.05)), fine_v)) * fits
    pane = np.minimum(cover(half_w - du, fine_u), cover(half_h - np.abs(dv + F(0.05)), fine_v)) * fits
    bars = np.maximum(cover(F(0.03) - du, fine_u), cover(F(0.03) - np.abs(dv - F(0.25)), fine_v))
    pane = pane * (1 - bars * (fine < F(0.12)) * (luck > F(0.3)))
    glass = np.array([0.035, 0.045, 0.055], F)[:, None] + scene.light.haze.astype(F)[:, None] * (luck * luck * F(0.20))
    blind = ((luck * 7) % 1 > F(0.62)) & (dv > (luck * 3 % 1 - F(0.4)) * half_h)
    glass = np.where(blind, np.array([0.42, 0.40, 0.36], F)[:, None], glass)
    glass = glass * (1 - F(0.4) * cover(F(0.12) - from_edge, fine))  # the reveal's shadow
    colour = mix(colour, trim, frame)
    colour = mix(colour, glass, pane)
    ground = (floor < 1) & street
    door = cover(F(0.5) - du, fine_u) * cover(F(2.15) - up, fine_v) * (ground & ~shop & (luck < F(0.3)))
    leaf = np.array([0.10, 0.06, 0.04], F)[:, None] * (1 + 3 * ((luck * 13) % 1))
    colour = mix(colour, leaf, door)
    front = ground & shop
    colour = mix(colour, F(0.09), front * cover(F(2.5) - up, fine_v))
    lit = F(0.05) + F(0.35) * luck * (chance(cell, seed + 5) > F(0.3))
    window = cover(bay * F(0.45) - du, fine_u) * between(up, 0.45, 2.4, fine_v)
    colour = mix(colour, lit * np.array([1.0, 0.92, 0.75], F)[:, None], front * window)
    board = between(up, 2.55, 3.1, fine_v)
    return mix(colour, scene.second[:, row], front * board)


def plain(points: Points) -> np.ndarray:
    return points.colour()


def leaves(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    across = points.x * F(0.8) + points.z * F(0.6)
    up = points.y + F(0.35) * points.x - F(0.45) * points.z
    fine = noise(across + scene.seed[row] * 9, up, 22) / (1 + points.footprint * F(7))
    coarse = noise(across, up + scene.seed[row] * 5, 6)
    low, tall = scene.pattern[0, row], scene.pattern[1, row]
    share = np.clip((points.y - low) / np.maximum(tall - low, F(0.1)), 0, 1)
    dark = (F(0.55) + F(0.6) * share) * np.clip(1 + F(0.42) * fine + F(0.3) * coarse, 0.12, 2.4)
    colour = points.colour() * dark
    colour[0] *= 1 + F(0.10) * coarse
    return colour


def car_body(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    side, a, y = scene.side[points.surface], points.middle(), points.y
    wheels, half_w, _, waist = scene.pattern[:, row]
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
    lamp = between(np.abs(a), half_w * F(0.58), half_w * F(0.95), fine) * between(y, height - F(0.15), height, points.footprint)
    bright = np.where(side == FRONT, np.array([0.75, 0.75, 0.7], F)[:, None], np.array([0.42, 0.006, 0.01], F)[:, None])
    colour = mix(colour, bright, lamp * end)
    grill = cover(half_w * F(0.5) - np.abs(a), fine) * between(y, 0.48, 0.62, points.footprint) * (side == FRONT)
    colour = mix(colour, 0.015, grill)
    plate = cover(F(0.26) - np.abs(a), fine) * between(y, 0.37, 0.49, points.footprint) * end
    return mix(colour, 0.62, plate)


def car_cabin(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    side, a = scene.side[points.surface], points.middle()
    high = scene.pattern[0, row]
    rise = points.y - scene.y0[row]
    half = scene.length[points.surface] * F(0.5)
    low, far = scene.lean[:, points.surface]
    along = points.along()
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
    kind, size, high, _ = scene.pattern[:, row]
    side = scene.side[points.surface]
    a = points.middle()
    up = (points.y - high) / size
    fine = points.footprint
    rim, face = points.colour(), scene.second[:, row]
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
    step = points.along() * F(1 / 0.24)
    fine = points.footprint * points.slant * F(1 / 0.24)
    gap = cover(np.abs(step - np.round(step)) - F(0.3), fine)
    rail = np.maximum(*(between(points.y, low, low + 0.12, points.footprint) for low in (0.25, 0.65)))
    flat = points.scene.side[points.surface] >= TOP
    solid = points.scene.seed[points.row] > F(0.55)  # a wall
    rough = 1 + F(0.1) * noise(points.along(), points.y, 25) / (1 + points.footprint * F(20))
    return points.colour() * rough * (1 - F(0.75) * gap * (1 - rail) * ~(flat | solid))


def tiles(points: Points) -> np.ndarray:
    along, up = points.along(), points.y
    rows = up * F(1 / 0.33)
    line = np.clip(1 - np.abs(rows - np.round(rows)) * 4, 0, 1) * np.clip(F(0.08) / points.footprint, 0, 1)
    gable = (points.scene.side[points.surface] == FRONT) | (points.scene.side[points.surface] == BACK)
    shade = 1 + F(0.14) * noise(along, up, 12) - F(0.3) * line * ~gable
    colour = points.colour() * shade
    return np.where(gable, colour * F(1.25), colour)


def lamps(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    lit, high = scene.pattern[0, row], scene.pattern[1, row]
    side = scene.side[points.surface]
    colour = points.colour()
    glow = np.array([(0.03, 0.9, 0.35), (1.2, 0.55, 0.02), (1.3, 0.03, 0.02)], F)
    for number in range(3):
        reach = np.hypot(points.middle(), points.y - high - F(0.16 + 0.31 * number))
        bright = np.where(lit == number, F(1.3), F(0.06))
        colour = mix(colour, glow[number][:, None] * bright, cover(F(0.115) - reach, points.footprint) * (side == FRONT))
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
