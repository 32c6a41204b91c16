"""How the ground looks: roads with their markings, pavement, grass."""

from __future__ import annotations

import numpy as np

from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_solids import TOP
from vallum.data.worlds.street_surfaces import F, Points, between, cover, mix, within
from vallum.data.worlds.street_texture import noise


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
    east, high, north = points.scene.camera.take(points.row, 1)
    fine_x, fine_z = (points.footprint * (1 + np.abs(place - at) / high) for place, at in ((x, east), (z, north)))
    fine_across, fine_along = np.where(lengthwise, fine_x, fine_z), np.where(lengthwise, fine_z, fine_x)
    grain = noise(x, z, 40) / (1 + points.footprint * F(20))
    worn = noise(x, z, 3.1)
    grey = F(0.105) * (1 + F(0.16) * grain + F(0.13) * worn)
    lane = np.abs(np.abs(across) - F(city.lane))
    grey = grey * (1 - F(0.12) * within(1 - np.abs(lane - F(0.7)) * F(2.2), 0, 1))  # where wheels roll
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
    paint = np.maximum(paint, np.maximum(zebra, stop)) * within(F(0.82) + F(0.12) * worn, 0.35, 1)
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
        line = F(0.02) + F(0.4) * wide - np.abs(tiles - np.round(tiles)) * F(0.6)
        joints = np.maximum(joints, within(line / wide, 0, 1))
    joints = joints * within(F(0.05) / wide, 0, 1)
    colour = colour * (1 - F(0.35) * joints)
    kerb = cover(F(0.16) - edge, points.footprint)
    colour = mix(colour, 0.42, kerb * F(0.8))
    grass = np.array([0.095, 0.15, 0.035], F)[:, None] * (1 + F(0.35) * grain + F(0.28) * coarse)
    grass = mix(grass, (0.22, 0.17, 0.10), within(coarse - F(0.7), 0, 1))
    colour = mix(colour, grass, cover(off_pavement(scene.city, edge), points.footprint))
    front = points.surface % 8 < TOP
    return np.where(front, np.array([0.27, 0.265, 0.25], F)[:, None] * (1 + F(0.1) * coarse), colour) * F(
        1 - 0.25 * scene.light.wet
    )


def from_kerb(city: City, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Metres from the nearest edge of the block."""
    px = np.abs(x - np.round(x / F(city.pitch_x)) * F(city.pitch_x))
    pz = np.abs(z - np.round(z / F(city.pitch_z)) * F(city.pitch_z))
    return np.minimum(px, pz) - F(city.road)


def off_pavement(city: City, edge: np.ndarray) -> np.ndarray:
    """How far on grass, from the distance to the kerb: in gardens, or on the verge."""
    garden = edge - F(city.pavement)
    if not city.verge:
        return garden
    return np.maximum(garden, np.minimum(edge - F(0.18), F(0.18 + city.verge) - edge))
