"""From what the samples see to a photograph: painted, lit, hazed, gathered into pixels, exposed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_eye import BALL, FACES, FIRST_ROW, GROUND_ROW, SKY_ROW, Camera, Rig, Seen, cast
from vallum.data.worlds.street_ground import from_kerb, off_pavement
from vallum.data.worlds.street_light import Light, shade
from vallum.data.worlds.street_painters import PAINTERS
from vallum.data.worlds.street_solids import FACES_BY_TURN, PAVEMENT, ROAD, SKY, TERRAIN, TOP, chosen, together
from vallum.data.worlds.street_solids import solids as _solids
from vallum.data.worlds.street_surfaces import Points, Samples, Scene, within
from vallum.data.worlds.street_texture import noise

F = np.float32
NOTHING = _solids(FIRST_ROW)  # the rows of the ground and the sky
NOTHING["label"][[GROUND_ROW, SKY_ROW]] = ROAD, SKY
NOTHING["paint"][[GROUND_ROW, SKY_ROW]] = paints.GROUND, paints.SKY


@dataclass(frozen=True)
class Picture:
    """One frame, and all that is known of it."""

    image: np.ndarray  # (H, W, 3) uint8
    labels: np.ndarray  # (H, W) int64
    depth: np.ndarray  # (H, W) float32 metres along the camera's axis; the sky's is infinite
    moving: np.ndarray  # (H, W) bool: what moves by itself, and the ground that its shadows pass over


def photograph(
    cameras: Sequence[Camera], solids: Sequence[np.ndarray], city: City, light: Light, grain: np.ndarray
) -> list[Picture]:
    """Frames of one drive, painted together; `grain` (frames, H, W, 3) in [-1, 1] is the sensor's noise.

    What a pixel's centre sees is painted; what its corners see, only where none of the centres around sees the same
    surface. Samples are listed by frame: all the centres, then the corners that are painted.
    """
    height, width = size = len(cameras[0].down) // 2, len(cameras[0].across) // 2
    shape = len(cameras), height, width
    centres = slice(math.prod(shape))
    rig, table = Rig(cameras), together([NOTHING, *solids])
    owner = np.repeat(np.arange(len(solids)), [len(some) for some in solids])
    seen = cast(rig, table[FIRST_ROW:], owner)
    rows = chosen(table, seen.rows + FIRST_ROW)
    single, shared = _singles(seen.surface)
    frame = single // ((height + 1) * (width + 1))
    directions, surface, inverse = _listed(rig, seen, single)
    depth = 1 / np.maximum(inverse, F(1e-4))
    at = rig.at.astype(F)
    place = directions * depth
    place[:, centres].reshape(3, len(cameras), -1)[...] += at[:, :, None]
    place[:, centres.stop :] += at[:, frame]
    pitch = depth * (cameras[0].across[2] - cameras[0].across[0])  # metres between pixels
    row = surface >> 3
    scene, direct, ambient, paint = _tables(rows, at[:, seen.frame], city, light)
    samples = Samples(place, directions, row, surface, pitch)
    sun, open_sky, kinds = direct.take(surface), ambient.take(surface), paint.take(row)
    level = (kinds == paints.GROUND) | ((kinds == paints.SLAB) & ((surface & 7) == TOP))

    nearest = _nearest_centres(single, size)
    asked = level[centres].copy()
    asked[nearest[level[centres.stop :]]] = True
    ground = (values[centres].reshape(shape) for values in (place[0], place[2], pitch, asked))
    sunlit, dark, restless = shade(table[FIRST_ROW:], owner, light, rig, *ground)
    for values, share in ((sun, sunlit.ravel()), (open_sky, dark.ravel())):
        values[centres] *= np.where(level[centres], share, 1)
        values[centres.stop :] *= np.where(level[centres.stop :], share.take(nearest), 1)
    _light_balls(rows, samples, light, sun, open_sky)

    colour = _painted(scene, samples, kinds)
    sky = kinds == paints.SKY
    far = depth * F(1 / light.mist)
    far *= far
    far /= 1 + far
    far *= ~sky
    clear = 1 - far
    for channel, (bright, blue, haze) in enumerate(zip(light.sun, light.ambient, light.haze, strict=True)):
        lit = sun * F(bright)
        lit += open_sky * F(blue)
        lit[sky] = 1
        colour[channel] *= lit
        colour[channel] *= clear
        colour[channel] += F(haze) * far

    image = _gathered(colour, shared, single, size)
    image *= F(light.exposure)
    image = np.sqrt(within(image, 0, 1), out=image)
    image += grain.transpose(3, 0, 1, 2) * (F(0.006) + F(0.012) * image)
    image = (within(image, 0, 1) * 255 + F(0.5)).astype(np.uint8).transpose(1, 2, 3, 0)

    labels = _labels(rows, scene, surface[centres], place[0, centres], place[2, centres])
    true_depth = np.full(centres.stop, np.inf, F)
    np.divide(1, inverse[centres], out=true_depth, where=inverse[centres] > 0)
    moves = (rows["velocity"] != 0).any(1).take(row[centres])
    moves |= restless.ravel() & level[centres]
    known = (values.reshape(shape) for values in (labels, true_depth, moves))
    return [Picture(*frame) for frame in zip(image, *known, strict=True)]


def _singles(surface: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The corners that share their surface with no centre around them, by number among all frames' corners; and whether
    each pixel shares its surface with its corners: top left, top right, bottom left, bottom right, (frames, H, W) each.

    `surface` (frames, H + 1, 2, W + 1).
    """
    corners, centres = surface[:, :, 0], surface[:, :-1, 1, :-1]
    alone = np.ones(corners.shape, bool)
    shared = []
    for part in _corners((centres.shape[1], centres.shape[2])):
        same = corners[part] == centres
        alone[part] &= ~same
        shared.append(same.astype(F))
    return np.flatnonzero(alone), shared


def _corners(size: tuple[int, int]) -> list[tuple[slice, slice, slice]]:
    """Of the grids of corners, those at the top left, top right, bottom left and bottom right of the pixels."""
    height, width = size
    return [np.s_[:, down : down + height, across : across + width] for down in (0, 1) for across in (0, 1)]


def _listed(rig: Rig, seen: Seen, single: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the samples that are painted: the directions of their rays (3, n), the ids of what they see, 1 / depth."""
    high, _, wide = seen.surface.shape[1:]
    line = single // wide
    corner = line * (2 * wide) + single - line * wide  # as it lies in the lattices
    frame, of_frame = corner // (2 * wide * high), corner % (2 * wide * high)
    directions = [camera.centres.reshape(3, -1) for camera in rig.cameras]
    directions += [camera.directions(of_frame[frame == number]) for number, camera in enumerate(rig.cameras)]
    surface, inverse = (
        np.concatenate([values[:, :-1, 1, :-1].ravel(), values.ravel().take(corner)])
        for values in (seen.surface, seen.inverse)
    )
    return np.concatenate(directions, 1), surface.astype(np.intp), inverse


def _nearest_centres(single: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The number of a pixel that each of these corners touches."""
    height, width = size
    line, across = single // (width + 1), single % (width + 1)
    frame, down = line // (height + 1), line % (height + 1)
    return (frame * height + np.minimum(down, height - 1)) * width + np.minimum(across, width - 1)


def _painted(scene: Scene, samples: Samples, kinds: np.ndarray) -> np.ndarray:
    """(3, n) albedos; of the sky, its light."""
    colour = np.empty((3, kinds.size), F)
    for kind in np.flatnonzero(np.bincount(kinds)).tolist():
        where = np.flatnonzero(kinds == kind)
        if kind == paints.SKY:
            made = _heaven(samples.directions.take(where, 1), scene.light)
        else:
            made = PAINTERS[kind](Points(scene, samples, where))
        for channel in range(3):
            colour[channel][where] = made[channel]
    return colour


def _gathered(colour: np.ndarray, shared: list[np.ndarray], single: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(3, frames, H, W): half of a pixel is its centre's colour, an eighth that of each corner.

    A corner's colour was painted, or is the mean of those centres around it that see the same surface.
    """
    height, width = size
    frames = len(shared[0])
    count = np.zeros((frames, height + 1, width + 1), F)
    for part, same in zip(_corners(size), shared, strict=True):
        count[part] += same
    count.ravel()[single] = 1
    pixels = np.empty((3, frames, height, width), F)
    for made, painted in zip(pixels, colour, strict=True):
        centres = painted[: made.size].reshape(made.shape)
        corners = np.zeros_like(count)
        for part, same in zip(_corners(size), shared, strict=True):
            corners[part] += centres * same
        corners.ravel()[single] = painted[made.size :]
        corners /= count
        lines = corners[:, :-1] + corners[:, 1:]
        np.multiply(centres, F(0.5), out=made)
        made += (lines[:, :, :-1] + lines[:, :, 1:]) * F(0.125)
    return pixels


def _tables(
    rows: np.ndarray, camera: np.ndarray, city: City, light: Light
) -> tuple[Scene, np.ndarray, np.ndarray, np.ndarray]:
    """What painters look up, how much sun and sky each surface gets, and the paint of each row."""
    count = len(rows)
    half, slope, turn = rows["half"], rows["slope"], rows["turn"]
    faces = np.full((count, FACES), BALL)
    faces[:, :BALL] = FACES_BY_TURN[turn]
    begin, length, lean = np.zeros((count, FACES), F), np.ones((count, FACES), F), np.zeros((2, count, FACES), F)
    along_x = np.zeros((count, FACES), bool)
    along_x[:, [2, 3]] = True
    for face in range(4):
        axis = 1 if face < 2 else 0
        begin[:, face] = rows["xz"[axis]] - half[:, axis]
        length[:, face] = 2 * half[:, axis]
        lean[:, :, face] = slope[:, 2 * axis : 2 * axis + 2].T
    # A plate that is a ball lies along its own x.
    even = turn % 2 == 0
    along_x[:, BALL] = even
    begin[:, BALL], length[:, BALL] = (np.where(even, of[:, 2], of[:, 0]) for of in (begin, length))
    own_z = faces <= 1
    flip = np.where(np.where(own_z, turn[:, None] >= 2, ((turn == 1) | (turn == 2))[:, None]), F(-1), F(1))

    normals = np.zeros((3, count, FACES))
    for face, (axis, sign) in enumerate(((0, -1), (0, 1), (2, -1), (2, 1))):
        normals[axis, :, face] = sign
        normals[1, :, face] = slope[:, face]
    normals[1, :, 4:] = 1, -1, 1, 1
    normals /= np.sqrt((normals * normals).sum(0))
    direct, ambient = light.on_planes(normals)
    scene = Scene(
        city,
        light,
        camera,
        np.ascontiguousarray(rows["colour"].T, F),
        np.ascontiguousarray(rows["second"].T, F),
        np.ascontiguousarray(rows["pattern"].T, F),
        rows["seed"].astype(F),
        rows["y0"].astype(F),
        rows["y1"].astype(F),
        faces.astype(np.int8).ravel(),
        begin.ravel(),
        length.ravel(),
        lean.reshape(2, -1),
        along_x.ravel(),
        flip.ravel(),
    )
    return scene, direct.astype(F).ravel(), ambient.astype(F).ravel(), rows["paint"].astype(np.uint8)


def _light_balls(rows: np.ndarray, samples: Samples, light: Light, sun: np.ndarray, sky: np.ndarray) -> None:
    """How much of the sun and the sky samples on ellipsoids get, each by its own normal."""
    where = np.flatnonzero((samples.surface & 7) == BALL)
    row = samples.row.take(where)
    high = np.maximum((rows["y1"] - rows["y0"]) / 2, 1e-3)
    half = np.maximum(rows["half"], 1e-3)
    middles, radii = (rows["x"], (rows["y0"] + rows["y1"]) / 2, rows["z"]), (half[:, 0], high, half[:, 1])
    normal = [
        (values.take(where) - middle.astype(F).take(row)) / radius.astype(F).take(row)
        for values, middle, radius in zip(samples.place, middles, radii, strict=True)
    ]
    lit = sum(part * F(toward) for part, toward in zip(normal, light.towards, strict=True))
    sun[where] = np.maximum(lit * F(0.75) + F(0.25), 0)
    sky[where] = F(0.7) + F(0.3) * normal[1]


def _heaven(directions: np.ndarray, light: Light) -> np.ndarray:
    x, y, z = directions
    length = np.sqrt(x * x + y * y + z * z)
    rise = within(y / length, 0, 1)
    pale = 1 - rise * F(2.2)
    pale = within(pale, 0, 1)
    pale = pale * pale
    zenith, haze = light.zenith.astype(F)[:, None], light.haze.astype(F)[:, None]
    colour = zenith + (haze - zenith) * pale
    if light.clouds > 0:
        over = 1 / (rise + F(0.12))
        across, along = x / length * over, z / length * over
        puff = noise(across, along, 60) * F(0.6) + noise(across + 3, along, 19)
        amount = within((puff + F(3.2 * light.clouds - 1.9)) * F(0.55), 0, 1) * within(rise * 9, 0, 1)
        white = light.ambient * 0.55 + light.sun * 0.30 + 0.12
        colour = colour + (white.astype(F)[:, None] * (1 - F(0.1) * puff) - colour) * amount * F(0.9)
    near_sun = within((x * F(light.towards[0]) + y * F(light.towards[1]) + z * F(light.towards[2])) / length, 0, 1)
    glow = near_sun**2
    glow = glow * glow * glow * glow
    return colour + light.sun.astype(F)[:, None] * (glow * glow * F(0.3) + glow * F(0.06))


def _labels(rows: np.ndarray, scene: Scene, surface: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    labels = rows["label"].take(surface >> 3)
    where = np.nonzero((labels == PAVEMENT) & ((surface & 7) == TOP))
    city = scene.city
    edge = from_kerb(city, x[where], z[where])
    labels[where] = np.where(off_pavement(city, edge) < 0, PAVEMENT, TERRAIN)
    return labels
