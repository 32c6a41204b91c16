"""Sun, sky, clouds and mist of one drive, and the shadows that solids throw on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vallum.data.worlds.street_eye import Rig, bounds, flat_corners, listed
from vallum.data.worlds.street_solids import BUILDING, CAR, PERSON, chosen

F = np.float32
REACH = 48.0  # metres to which small things throw shadows


@dataclass(frozen=True)
class Light:
    """Colours are linear; `towards` points to the sun."""

    towards: np.ndarray  # (3,)
    sun: np.ndarray  # (3,) 0 under an overcast sky
    ambient: np.ndarray
    zenith: np.ndarray
    haze: np.ndarray  # of the sky at the horizon, and of what is far away
    clouds: float  # how much of the sky they cover
    mist: float  # metres at which half of what is seen is haze
    wet: float  # how wet the road is
    exposure: float

    @classmethod
    def of(cls, stream: np.random.Generator) -> Light:
        roll = [float(number) for number in stream.random(10)]
        kind, turn, lift, warm, blue, cover, far, expose = roll[:8]
        # A point on a circle without sine or cosine, whose last bit differs between platforms.
        slope = 2 * turn - 1
        side = 1.0 if roll[8] < 0.5 else -1.0
        east, north = (1 - slope * slope) / (1 + slope * slope), 2 * slope / (1 + slope * slope)
        evening = 0.52 <= kind < 0.64
        rise = 0.22 + 0.2 * lift if evening else 0.55 + 1.1 * lift
        length = (1 + rise * rise) ** 0.5
        towards = np.array([side * east, rise, north]) / length
        white = np.array([1.0, 0.96 - 0.05 * warm, 0.88 - 0.14 * warm])
        sky = np.array([0.20 + 0.12 * blue, 0.38 + 0.12 * blue, 0.78])
        pale = np.array([0.72, 0.80, 0.90])
        grey = np.array([0.80, 0.83, 0.86])
        if kind < 0.52:  # sunshine
            sun, ambient, zenith, haze = 2.6 * white, 0.45 * (sky + 0.9 * pale), sky * 1.05, pale * 1.1
            clouds, mist, wet, exposure = cover * 0.75, 350 + 500 * far, 0.0, 0.50
        elif evening:
            gold = np.array([1.0, 0.72 - 0.12 * warm, 0.42 - 0.12 * warm])
            sun, ambient = 2.3 * gold, np.array([0.52, 0.52, 0.62])
            zenith, haze = np.array([0.30, 0.38, 0.62]), np.array([1.05, 0.82, 0.58])
            clouds, mist, wet, exposure = cover * 0.8, 200 + 300 * far, 0.0, 0.56
        elif kind < 0.86:  # overcast
            sun, ambient = 0.10 * white, 1.15 * grey
            zenith, haze = 0.80 * grey, 1.05 * grey
            clouds, mist, wet, exposure = 0.3 + 0.5 * cover, 150 + 300 * far, 0.0, 0.74
        elif kind < 0.94:  # rain has fallen
            sun, ambient = 0.05 * white, 0.85 * grey * (0.92, 0.97, 1.05)
            zenith, haze = 0.5 * grey, 0.85 * grey
            clouds, mist, wet, exposure = 0.6 + 0.4 * cover, 90 + 120 * far, 1.0, 0.80
        else:  # fog
            sun, ambient = 0.05 * white, 1.15 * grey
            zenith, haze = 1.0 * grey, 1.0 * grey
            clouds, mist, wet, exposure = 0.0, 28 + 40 * far, 0.3, 0.62
        expose_by = exposure * (0.82 + 0.4 * expose)
        return cls(towards, sun, ambient, zenith, haze, clouds, mist, wet, expose_by)

    def on_planes(self, normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much of the sun and of the sky surfaces with these normals (3, ...) see."""
        direct = np.maximum(sum(part * toward for part, toward in zip(normals, self.towards, strict=True)), 0)
        return direct, 0.62 + 0.38 * normals[1]


def shade(
    solids: np.ndarray,
    frame: np.ndarray,
    light: Light,
    rig: Rig,
    x: np.ndarray,
    z: np.ndarray,
    footprint: np.ndarray,
    asked: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shares of the sun and of the sky that reach the ground at the points x, z of the pixels that are asked for,
    and whether a shadow there moves, (F, H, W) each.

    A box's shadow is the ground that it sweeps as it slides down along the sun's rays: within two pairs of lines along
    the axes, and one pair along the rays.
    """
    sunlit, open_sky, moving = np.ones_like(x), np.ones_like(x), np.zeros(x.shape, bool)
    away = np.maximum(np.abs(solids["x"] - rig.at[0, frame]), np.abs(solids["z"] - rig.at[2, frame]))
    tall = solids["label"] == BUILDING
    bright = light.sun.max() > 0.3
    reach = REACH if bright else REACH / 2
    throw = np.flatnonzero(solids["shadow"] & (away < reach * np.where(tall, 2.2, 1)))
    solids, frame = chosen(solids, throw), frame[throw]
    moves = (solids["velocity"] != 0).any(1)
    ground = [values.ravel() for values in (x, z, footprint)]
    if bright:
        flat = float(np.hypot(light.towards[0], light.towards[2]))
        east, north = (float(part) for part in light.towards[[0, 2]] / flat)
        stretch = flat / float(light.towards[1])  # metres of shadow for each metre of height
        ball = np.where(solids["round"], 0.8, 1.0)
        rise = (solids["y1"] - solids["y0"]) / 2
        slope = solids["slope"]
        wide = np.maximum(solids["half"][:, 0] - (slope[:, 0] + slope[:, 1]) / 2 * rise, 0.1) * ball
        long = np.maximum(solids["half"][:, 1] - (slope[:, 2] + slope[:, 3]) / 2 * rise, 0.1) * ball
        middle, run = (solids["y0"] + rise) * stretch, rise * stretch * ball
        area = (
            solids["x"] - east * middle,
            solids["z"] - north * middle,
            wide + abs(east) * run,
            long + abs(north) * run,
        )
        band = (abs(north) * wide + abs(east) * long).astype(F)
        soft = (np.where(solids["label"] == BUILDING, 0.25, 0.12) + 0.02 * middle).astype(F)
        place, body, dx, dz, edge, fine = _on_areas(rig, frame, asked, ground, area)
        across = np.abs(dx * F(north) - dz * F(east))
        np.minimum(edge, band.take(body) - across, out=edge)
        edge /= fine + soft.take(body)
        np.minimum.at(sunlit.ravel(), place, np.maximum(0.5 - edge, 0))
        moving.ravel()[place[moves.take(body) & (edge > -1)]] = True
    low = (solids["label"] == CAR) & (solids["y0"] < 0.25) | (solids["label"] == PERSON)
    near, frame, moves = chosen(solids, low), frame[low], moves[low]
    area = near["x"], near["z"], near["half"][:, 0] + 0.05, near["half"][:, 1] + 0.05
    place, body, _, _, edge, _ = _on_areas(rig, frame, asked, ground, area)
    edge *= F(2.2)
    np.minimum.at(open_sky.ravel(), place, np.maximum(0.6 - edge, 0.15))
    moving.ravel()[place[moves.take(body) & (edge > -1)]] = True
    return sunlit, open_sky, moving


def _on_areas(
    rig: Rig, frame: np.ndarray, asked: np.ndarray, ground: Sequence[np.ndarray], area: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Of rectangles on the ground, by their middles x, z and half sides, all the pixels asked for that may show them,
    in one list: pixel, rectangle, distances from its middle, how far inside its edges, and the pixel's size there."""
    height, width = asked.shape[1:]
    box, _ = bounds(rig.sees(flat_corners(*area), frame), rig)
    left, right, top, low = box // 2
    seen = (right > left) & (low > top)
    limits = left, np.minimum(right + 1, width), top, np.minimum(low + 1, height)
    body, down, across = listed(*(np.where(seen, limit, 0) for limit in limits))
    place = (frame.take(body) * height + down) * width + across
    there = np.flatnonzero(asked.ravel().take(place))
    body, place = body.take(there), place.take(there)
    mid_x, mid_z, half_x, half_z = (values.astype(F).take(body) for values in area)
    x, z, fine = (values.take(place) for values in ground)
    dx, dz = x - mid_x, z - mid_z
    inside = np.minimum(half_x - np.abs(dx), half_z - np.abs(dz))
    return place, body, dx, dz, inside, fine
