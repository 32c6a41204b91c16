"""From what the samples see to a photograph: painted, lit, hazed, gathered into pixels, exposed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_eye import BALL, FACES, FIRST_ROW, SKY_ROW, Camera, cast
from vallum.data.worlds.street_ground import from_kerb, off_pavement
from vallum.data.worlds.street_light import Light, shade
from vallum.data.worlds.street_painters import PAINTERS
from vallum.data.worlds.street_solids import FACES_BY_TURN, PAVEMENT, ROAD, SKY, TERRAIN, TOP
from vallum.data.worlds.street_surfaces import Points, Scene
from vallum.data.worlds.street_texture import noise

F = np.float32


@dataclass(frozen=True)
class Picture:
    """One frame, and all that is known of it."""

    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) int64
    depth: np.ndarray  # (H, W) float32 metres along the camera's axis; the sky's is infinite
    moving: np.ndarray  # (H, W) bool: what moves by itself, and the ground that its shadows pass over


def photograph(camera: Camera, solids: np.ndarray, city: City, light: Light, grain: np.ndarray) -> Picture:
    """`grain` (H, W, 3) in [-1, 1] is the sensor's noise.

    What a pixel's centre sees is painted; what its corners see, only where none of the centres around sees the same
    surface.
    """
    seen = cast(camera, solids)
    rows = solids[seen.rows]
    height, width = size = len(camera.down) // 2, len(camera.across) // 2
    picked, shared = _picked(seen.surface, size)
    surface = seen.surface.ravel().take(picked).astype(np.intp)
    inverse = seen.inverse.ravel().take(picked)
    directions = camera.directions(picked)
    depth = 1 / np.maximum(inverse, F(1e-4))
    x, y, z = (directions[axis] * depth + F(camera.at[axis]) for axis in range(3))
    pitch = depth * (camera.across[2] - camera.across[0])  # metres between pixels
    row = surface >> 3
    scene, direct, ambient, paint = _tables(rows, camera, city, light)
    sun, open_sky, kinds = direct.take(surface), ambient.take(surface), paint.take(row)
    level = (kinds == paints.GROUND) | ((kinds == paints.SLAB) & ((surface & 7) == TOP))
    centre = slice(height * width)
    grids = (values[centre].reshape(size) for values in (x, z, pitch))
    sunlit, dark, restless = shade(solids, light, camera, *grids)
    nearest = _nearest_centre(picked, size)
    sun *= np.where(level, sunlit.ravel().take(nearest), 1)
    open_sky *= np.where(level, dark.ravel().take(nearest), 1)
    balls = np.flatnonzero((surface & 7) == BALL)
    _light_balls(rows, row.take(balls) - FIRST_ROW, (x, y, z), balls, light, sun, open_sky)

    slants = _slants(directions, surface)
    colour = np.empty((3, surface.size), F)
    for kind in np.flatnonzero(np.bincount(kinds)):
        where = np.flatnonzero(kinds == kind)
        if kind == paints.SKY:
            made = _heaven(directions.take(where, 1), light)
        else:
            points = Points(scene, *(values.take(where) for values in (x, y, z, row, surface, pitch, slants)))
            made = PAINTERS[int(kind)](points)
        for channel in range(3):
            colour[channel][where] = made[channel]
    far = depth * F(1 / light.mist)
    far = far * far / (1 + far * far) * (surface >> 3 != SKY_ROW)
    for channel, (bright, blue, haze) in enumerate(zip(light.sun, light.ambient, light.haze, strict=True)):
        lit = np.where(kinds == paints.SKY, 1, sun * F(bright) + open_sky * F(blue))
        colour[channel] = colour[channel] * lit * (1 - far) + F(haze) * far

    pixels = _gathered(colour, shared, size) * F(light.exposure)
    image = np.sqrt(np.clip(pixels, 0, 1)).transpose(1, 2, 0)
    image = (np.clip(image + grain * (F(0.006) + F(0.012) * image), 0, 1) * 255 + F(0.5)).astype(np.uint8)

    labels = _labels(rows, scene, surface[centre], x[centre], z[centre])
    true_depth = np.full(height * width, np.inf, F)
    np.divide(1, inverse[centre], out=true_depth, where=inverse[centre] > 0)
    moves = np.concatenate([[False] * FIRST_ROW, (rows["velocity"] != 0).any(1)])[row[centre]]
    moves |= restless.ravel() & level[centre]
    return Picture(image, *(values.reshape(height, width) for values in (labels, true_depth, moves)))


def _picked(surface: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Which samples are painted, the pixels' centres first; and whether each pixel shares its surface with its corners:
    top left, top right, bottom left, bottom right, (H, W) each."""
    height, width = size
    wide = width + 1
    corners, centres = surface[:, 0], surface[:-1, 1, :-1]
    alone = np.ones(corners.shape, bool)
    shared = []
    for part in _corners(size):
        same = corners[part] == centres
        alone[part] &= ~same
        shared.append(same.astype(F))
    single = np.flatnonzero(alone)
    middle = (2 * np.arange(height) + 1)[:, None] * wide + np.arange(width)
    return np.concatenate([middle.ravel(), single // wide * (2 * wide) + single % wide]), shared


def _corners(size: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Of the grid of corners, those at the top left, top right, bottom left and bottom right of the pixels."""
    height, width = size
    return [np.s_[down : down + height, across : across + width] for down in (0, 1) for across in (0, 1)]


def _gathered(colour: np.ndarray, shared: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(3, H, W): half of a pixel is its centre's colour, an eighth that of each corner.

    A corner's colour was painted, or is the mean of those centres around it that see the same surface.
    """
    height, width = size
    count = np.zeros((height + 1, width + 1), F)
    for part, same in zip(_corners(size), shared, strict=True):
        count[part] += same
    single = np.flatnonzero(count == 0)
    count.ravel()[single] = 1
    pixels = np.empty((3, height, width), F)
    for made, painted in zip(pixels, colour, strict=True):
        centres = painted[: height * width].reshape(size)
        corners = np.zeros_like(count)
        for part, same in zip(_corners(size), shared, strict=True):
            corners[part] += centres * same
        corners.ravel()[single] = painted[height * width :]
        corners /= count
        rows = corners[:-1] + corners[1:]
        np.add(centres * F(0.5), (rows[:, :-1] + rows[:, 1:]) * F(0.125), out=made)
    return pixels


def _nearest_centre(picked: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The number of the pixel that each painted sample lies in, or touches."""
    height, width = size
    down, across = picked // (width + 1), picked % (width + 1)
    return np.minimum(down // 2, height - 1) * width + np.minimum(across, width - 1)


def _tables(
    rows: np.ndarray, camera: Camera, city: City, light: Light
) -> tuple[Scene, np.ndarray, np.ndarray, np.ndarray]:
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
        camera.at.astype(F),
        with_ground(rows["colour"]).T.copy(),
        with_ground(rows["second"]).T.copy(),
        with_ground(rows["pattern"]).T.copy(),
        with_ground(rows["seed"]),
        with_ground(rows["y0"]),
        with_ground(rows["y1"]),
        faces.astype(np.int8).ravel(),
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
    labels[where] = np.where(off_pavement(city, edge) < 0, PAVEMENT, TERRAIN)
    return labels
