"""From what the samples see to a photograph: painted, lit, hazed, gathered into pixels, exposed."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_eye import FACES, FIRST_ROW, Camera, cast
from vallum.data.worlds.street_light import Light, shade
from vallum.data.worlds.street_painters import PAINTERS, Points, Scene, from_kerb
from vallum.data.worlds.street_solids import FACES_BY_TURN, PAVEMENT, ROAD, SKY, TERRAIN, TOP
from vallum.data.worlds.street_texture import noise

F = np.float32


@dataclass(frozen=True)
class Picture:
    """One frame, and all that is known of it."""

    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) int64
    depth: np.ndarray  # (H, W) float32 metres along the camera's axis; the sky's is infinite
    moving: np.ndarray  # (H, W) bool: what moves by itself, and the shadows that it throws


def photograph(camera: Camera, solids: np.ndarray, city: City, light: Light, grain: np.ndarray) -> Picture:
    """`grain` (H, W, 3) in [-1, 1] is the sensor's noise.

    The camera's samples lie half a pixel apart. Coloured are those at the pixels' centres and at their corners.
    """
    seen = cast(camera, solids)
    rows = solids[seen.rows]
    height, width = len(camera.down) // 2, len(camera.across) // 2
    picked = _picked(height, width)
    surface, inverse = seen.surface.ravel().take(picked), seen.inverse.ravel().take(picked)
    directions = np.concatenate([camera.directions(1).reshape(3, -1), camera.directions(0).reshape(3, -1)], 1)
    depth = 1 / np.maximum(inverse, F(1e-4))
    x, y, z = (directions[axis] * depth + F(camera.at[axis]) for axis in range(3))
    pitch = depth * (camera.across[1] - camera.across[0])  # metres between samples
    row = surface >> 3
    scene, direct, ambient, paint = _tables(rows, city, light)
    sun, open_sky, kinds = direct.take(surface), ambient.take(surface), paint.take(row)
    albedo = np.zeros((3, surface.size), F)
    slants = _slants(directions, surface)
    for kind in np.flatnonzero(np.bincount(kinds)):
        if kind != paints.SKY:
            where = np.flatnonzero(kinds == kind)
            points = Points(scene, *(values.take(where) for values in (x, y, z, row, surface, pitch, slants)))
            albedo[:, where] = PAINTERS[int(kind)](points)
    balls = np.flatnonzero((surface & 7) == 6)
    _light_balls(rows, row.take(balls) - FIRST_ROW, (x, y, z), balls, light, sun, open_sky)
    level = (kinds == paints.GROUND) | ((kinds == paints.SLAB) & ((surface & 7) == TOP))
    sun, dark = _shadowed(sun, level, x, z, solids, camera, light, pitch, (height, width))
    open_sky *= dark

    colour = albedo * (light.sun.astype(F)[:, None] * sun + light.ambient.astype(F)[:, None] * open_sky)
    far = depth * F(1 / light.mist)
    far = far * far / (1 + far * far)
    colour += (light.haze.astype(F)[:, None] - colour) * far
    above = np.flatnonzero(kinds == paints.SKY)
    colour[:, above] = _heaven(directions[:, above], light)

    pixels = _gather(colour, height, width) * F(light.exposure)
    image = np.sqrt(np.clip(pixels, 0, 1)).transpose(1, 2, 0)
    image = (np.clip(image + grain * (F(0.006) + F(0.012) * image), 0, 1) * 255 + F(0.5)).astype(np.uint8)

    centre = slice(height * width)
    labels = _labels(rows, scene, surface[centre], x[centre], z[centre])
    true_depth = np.full(height * width, np.inf, F)
    np.divide(1, inverse[centre], out=true_depth, where=inverse[centre] > 0)
    moves = np.concatenate([[False] * FIRST_ROW, (rows["velocity"] != 0).any(1)])[row[centre]]
    return Picture(image, *(values.reshape(height, width) for values in (labels, true_depth, moves)))


@functools.cache
def _picked(height: int, width: int) -> np.ndarray:
    """Where in the samples' grid the pixels' centres lie, and then their corners."""
    grid = np.arange((2 * height + 1) * (2 * width + 1)).reshape(2 * height + 1, 2 * width + 1)
    return np.concatenate([grid[1::2, 1::2].ravel(), grid[::2, ::2].ravel()])


def _around(corners: np.ndarray) -> np.ndarray:
    """The sum of every pixel's four corners."""
    rows = corners[..., :-1, :] + corners[..., 1:, :]
    return rows[..., :-1] + rows[..., 1:]


def _gather(colour: np.ndarray, height: int, width: int) -> np.ndarray:
    """(3, H, W): half of a pixel's colour is its centre's, an eighth that of each corner."""
    centres = colour[:, : height * width].reshape(3, height, width)
    corners = colour[:, height * width :].reshape(3, height + 1, width + 1)
    return centres * F(0.5) + _around(corners) * F(0.125)


def _shadowed(
    sun: np.ndarray,
    level: np.ndarray,
    x: np.ndarray,
    z: np.ndarray,
    solids: np.ndarray,
    camera: Camera,
    light: Light,
    pitch: np.ndarray,
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The sun's share with shadows on what lies level, and how much of the sky is left there under cars and the like.

    Shadows are cast at the pixels' centres; a corner has the mean of those around it that lie level.
    """
    count = size[0] * size[1]
    grids = [values[:count].reshape(size) for values in (x, z, pitch)]
    sunlit, dark = shade(solids, light, camera, *grids)
    flat = level[:count].reshape(size)
    known = _around(np.pad(flat.astype(F), 1))
    result = []
    for values in (sunlit, dark):
        corners = _around(np.pad(values * flat, 1)) / np.maximum(known, 1)
        corners[known == 0] = 1
        result.append(np.where(level, np.concatenate([values.ravel(), corners.ravel()]), 1))
    return sun * result[0], result[1]


def _tables(rows: np.ndarray, city: City, light: Light) -> tuple[Scene, np.ndarray, np.ndarray, np.ndarray]:
    """What painters look up, how much sun and sky each surface gets, and the paint of each row."""
    count = len(rows) + FIRST_ROW

    def with_ground(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((FIRST_ROW, *values.shape[1:])), values]).astype(F)

    faces = np.zeros((count, FACES), np.int64)
    faces[FIRST_ROW:, :6] = FACES_BY_TURN[rows["turn"]]
    faces[:, 6] = 6
    begin, length, lean = np.zeros((count, FACES)), np.ones((count, FACES)), np.zeros((2, count, FACES))
    along_x = np.zeros((count, FACES), bool)
    along_x[:, [2, 3]] = True
    half, slope = rows["half"], rows["slope"]
    for face in range(4):
        axis = 1 if face < 2 else 0
        begin[FIRST_ROW:, face] = rows["xz"[axis]] - half[:, axis]
        length[FIRST_ROW:, face] = 2 * half[:, axis]
        lean[0, FIRST_ROW:, face], lean[1, FIRST_ROW:, face] = slope[:, 2 * axis], slope[:, 2 * axis + 1]
    # A plate that is a ball lies along its own x.
    along_x[FIRST_ROW:, 6] = rows["turn"] % 2 == 0
    for which, axis in ((rows["turn"] % 2 == 0, 0), (rows["turn"] % 2 == 1, 1)):
        begin[FIRST_ROW:, 6] = np.where(which, rows["xz"[axis]] - half[:, axis], begin[FIRST_ROW:, 6])
        length[FIRST_ROW:, 6] = np.where(which, 2 * half[:, axis], length[FIRST_ROW:, 6])
    flip = np.ones((count, FACES))
    turn = rows["turn"][:, None]
    own_z = faces[FIRST_ROW:] <= 1
    flip[FIRST_ROW:] = np.where(np.where(own_z, turn >= 2, (turn == 1) | (turn == 2)), -1, 1)

    normals = np.zeros((count, FACES, 3))
    for face, (axis, sign) in enumerate(((0, -1), (0, 1), (2, -1), (2, 1))):
        normals[FIRST_ROW:, face, axis] = sign
        normals[FIRST_ROW:, face, 1] = slope[:, face]
    normals[:, 4, 1], normals[:, 5, 1], normals[:, 6, 1], normals[:, 7, 1] = 1, -1, 1, 1
    normals[:FIRST_ROW, :4, 1] = 1
    normals /= np.sqrt((normals * normals).sum(-1, keepdims=True))
    direct, ambient = light.on_planes(normals)
    paint = np.concatenate([[paints.GROUND, paints.SKY], rows["paint"]])
    scene = Scene(
        city,
        light,
        with_ground(rows["colour"]).T.copy(),
        with_ground(rows["second"]).T.copy(),
        with_ground(rows["pattern"]).T.copy(),
        with_ground(rows["seed"]),
        with_ground(rows["y0"]),
        with_ground(rows["y1"]),
        faces.ravel(),
        begin.astype(F).ravel(),
        length.astype(F).ravel(),
        lean.astype(F).reshape(2, -1),
        along_x.ravel(),
        flip.astype(F).ravel(),
    )
    return scene, direct.astype(F).ravel(), ambient.astype(F).ravel(), paint


def _slants(directions: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """By how much further two samples side by side lie apart on a surface than on one that faces the camera."""
    x, y, z = np.abs(directions)
    face = surface & 7
    least = F(0.02)
    above, below = np.maximum(x, z), np.maximum(y, least)
    flank = face < 2
    above = np.where(face < 4, np.where(flank, z, x), above)
    below = np.where(face < 4, np.maximum(np.where(flank, x, z), least), below)
    return 1 + np.where(face == 6, 0, above / below)


def _light_balls(
    rows: np.ndarray,
    row: np.ndarray,
    place: tuple[np.ndarray, ...],
    where: np.ndarray,
    light: Light,
    sun: np.ndarray,
    sky: np.ndarray,
) -> None:
    """How much of the sun and the sky samples on ellipsoids get, each by its own normal."""
    high = np.maximum((rows["y1"] - rows["y0"]) / 2, 1e-3)
    half = np.maximum(rows["half"], 1e-3)
    middles, radii = (rows["x"], (rows["y0"] + rows["y1"]) / 2, rows["z"]), (half[:, 0], high, half[:, 1])
    normal = [
        (values.take(where) - middle.astype(F).take(row)) / radius.astype(F).take(row)
        for values, middle, radius in zip(place, middles, radii, strict=True)
    ]
    lit = sum(part * F(toward) for part, toward in zip(normal, light.towards, strict=True))
    sun[where] = np.maximum(lit * F(0.75) + F(0.25), 0)
    sky[where] = F(0.7) + F(0.3) * normal[1]


def _heaven(directions: np.ndarray, light: Light) -> np.ndarray:
    x, y, z = directions
    length = np.sqrt(x * x + y * y + z * z)
    rise = np.clip(y / length, 0, 1)
    pale = 1 - rise * F(2.2)
    pale = np.clip(pale, 0, 1)
    pale = pale * pale
    zenith, haze = light.zenith.astype(F)[:, None], light.haze.astype(F)[:, None]
    colour = zenith + (haze - zenith) * pale
    if light.clouds > 0:
        over = 1 / (rise + F(0.12))
        across, along = x / length * over, z / length * over
        puff = noise(across, along, 60) * F(0.6) + noise(across + 3, along, 19)
        amount = np.clip((puff + F(3.2 * light.clouds - 1.9)) * F(0.55), 0, 1) * np.clip(rise * 9, 0, 1)
        white = light.ambient * 0.55 + light.sun * 0.30 + 0.12
        colour = colour + (white.astype(F)[:, None] * (1 - F(0.1) * puff) - colour) * amount * F(0.9)
    near_sun = np.clip((x * F(light.towards[0]) + y * F(light.towards[1]) + z * F(light.towards[2])) / length, 0, 1)
    glow = near_sun**2
    glow = glow * glow * glow * glow
    return colour + light.sun.astype(F)[:, None] * (glow * glow * F(0.3) + glow * F(0.06))


def _labels(rows: np.ndarray, scene: Scene, surface: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    by_row = np.concatenate([[ROAD, SKY], rows["label"]])
    labels = by_row[surface >> 3]
    where = np.nonzero((labels == PAVEMENT) & ((surface & 7) == TOP))
    city = scene.city
    edge = from_kerb(city, x[where], z[where])
    labels[where] = np.where(edge < city.pavement, PAVEMENT, TERRAIN)
    return labels
