"""Ray casting: which surface each sample of a picture sees first, and how far away.

A ray leaves the camera along d(u, v), whose part along the camera's axis is 1, so that the distance t along it is the
depth. In w = 1 / t a plane is linear: n.(c + d / w) = k gives w = n.d / (k - n.c). A ray enters a convex body through
the last of the planes that it meets from outside, where w is the least of theirs, and leaves it through the first of
the others, where w is the greatest; the body is hit where the former is nearer. The nearest body has the greatest w.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from vallum.data.worlds.street_solids import TOP

NEAR = 0.25  # metres: what is nearer is not seen
FACES = 8  # ids of surfaces: row * FACES + face, after those of the sky and the ground
GROUND_ROW, SKY_ROW, FIRST_ROW = 0, 1, 2
BALL = 6  # the face of an ellipsoid
SMALL = 120  # samples: bodies that cover no more are cast together
_EDGES = np.array([(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit])  # of a box with corners 0..7
_CORNERS = np.array([[(c >> bit & 1) * 2 - 1 for bit in range(3)] for c in range(8)], float)  # x, y, z as -1 or 1


@dataclass(frozen=True)
class Camera:
    """Where it is, which way its right, up and ahead point, and its samples' places on the plane at depth 1.

    Samples are the pixels' corners and centres: of lines half a pixel apart, where even lines cross or odd ones do.
    They lie in a lattice (H + 1, 2, W + 1): a row of corners, then the row of centres beneath it, whose last column,
    as the last row of centres, belongs to no pixel.
    """

    at: np.ndarray  # (3,)
    axes: np.ndarray  # (3, 3): rows are right, up, ahead
    across: np.ndarray  # (2 W + 1,) float32: to the right
    down: np.ndarray  # (2 H + 1,) float32

    @functools.cached_property
    def lattice(self) -> tuple[np.ndarray, np.ndarray]:
        """To the right (2, W + 1), of corners and of centres, and down (H + 1, 2)."""
        right, below = (np.append(line, 2 * line[-1] - line[-2]) for line in (self.across, self.down))
        return np.ascontiguousarray(right.reshape(-1, 2).T), below.reshape(-1, 2)

    def directions(self, picked: np.ndarray) -> np.ndarray:
        """(3, n): x, y and z of the rays of samples, numbered as they lie in the lattice."""
        right, up, ahead = self.axes.astype(np.float32)[:, :, None]
        across, down = self.lattice
        row = picked // across.shape[1]
        column = picked - row * across.shape[1] + (row & 1) * across.shape[1]
        return ahead - up * down.ravel().take(row) + right * across.ravel().take(column)


@dataclass(frozen=True)
class Seen:
    """What the samples see: the id of a surface, and one over its depth."""

    surface: np.ndarray  # (H + 1, 2, W + 1) int32, as the camera's lattice
    inverse: np.ndarray  # (H + 1, 2, W + 1) float32
    rows: np.ndarray  # of the solids that may be seen, in the order of the ids


def cast(camera: Camera, solids: np.ndarray) -> Seen:
    """Every sample's surface: the ground at y = 0, the sky, or a face of one of the solids."""
    inverse, surface = _ground(camera)
    ahead = _in_front(solids, camera)
    local = (_corners(solids[ahead]) - camera.at) @ camera.axes.T  # (N, 8, 3)
    box, nearest = bounds(local, camera)
    kept = (box[:, 1] > box[:, 0]) & (box[:, 3] > box[:, 2])
    order = np.flatnonzero(kept)[np.argsort(nearest[kept], kind="stable")]
    rows, box, nearest = ahead[order], box[order], nearest[order]
    box[:, 1::2] += 1
    box //= 2  # from lines to pairs of them
    seen = solids[rows]
    planes, outside, faces = _planes(seen, camera)
    quadrics = _quadrics(seen, camera)
    area = 2 * (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    across, down = camera.lattice
    fronts, rounds = outside.sum(1).tolist(), seen["round"].tolist()
    for number in np.flatnonzero(area > SMALL).tolist():
        left, right, top, low = box[number].tolist()
        window = inverse[top:low, :, left:right]
        if window.min() * nearest[number] >= 1:  # all of it is hidden
            continue
        u, v = across[:, left:right], down[top:low]
        start = (number + FIRST_ROW) * FACES
        if rounds[number]:
            entry = _into_ball(quadrics[number], u, v)
            hit = entry > window
            side: Any = start + BALL
        else:
            entry, leave, side = _into_frustum(planes[number], fronts[number], faces[number] + start, u, v)
            hit = (entry > leave) & (entry > window)
        np.copyto(surface[top:low, :, left:right], side, where=hit)
        np.copyto(window, entry, where=hit)
    small = np.flatnonzero(area <= SMALL)
    for some, into in ((small[~seen["round"][small]], _into_frustums), (small[seen["round"][small]], _into_balls)):
        row, place, u, v = _candidates(box[some], camera)
        row = some[row]
        open_yet = inverse.ravel()[place] * nearest.astype(np.float32)[row] < 1
        row, place, u, v = row[open_yet], place[open_yet], u[open_yet], v[open_yet]
        entry, side = into(planes, outside, faces, quadrics, row, u, v)
        first = np.flatnonzero(entry > inverse.ravel()[place])
        first = first[np.argsort(entry[first], kind="stable")]  # of several at one place the nearest is written last
        inverse.ravel()[place[first]] = entry[first]
        surface.ravel()[place[first]] = (row[first] + FIRST_ROW) * FACES + side[first]
    return Seen(surface, inverse, rows)


def _candidates(box: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All samples of all boxes in one list: the number of the box, the place in the grid, u and v."""
    right, below = camera.lattice
    wide, high = box[:, 1] - box[:, 0], 2 * (box[:, 3] - box[:, 2])
    area = wide * high
    row = np.repeat(np.arange(len(box)), area)
    number = np.arange(len(row)) - np.repeat(np.cumsum(area) - area, area)
    down = number // wide[row]
    across = number - down * wide[row] + box[row, 0]
    down += 2 * box[row, 2]
    return row, down * right.shape[1] + across, right[down & 1, across], below.ravel()[down]


def _in_front(solids: np.ndarray, camera: Camera) -> np.ndarray:
    """The rows of solids that a picture may show larger than a sample, from spheres around them."""
    high = (solids["y1"] - solids["y0"]) / 2
    half = solids["half"]
    radius = np.sqrt(half[:, 0] * half[:, 0] + half[:, 1] * half[:, 1] + high * high)
    middle = np.stack([solids["x"], solids["y0"] + high, solids["z"]], 1) - camera.at
    right, _, depth = (middle @ camera.axes.T).T
    sample, edge = camera.across[1] - camera.across[0], max(-camera.across[0], camera.across[-1])
    within = np.abs(right) - radius * (1 + edge * edge) ** 0.5 < edge * depth
    return np.flatnonzero((depth > NEAR - radius) & within & (2 * radius > sample * depth))


def _ground(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    right, up, ahead = (camera.axes[:, 1] / camera.at[1]).astype(np.float32)
    across, down = camera.lattice
    inverse = (up * down - ahead)[:, :, None] - right * across
    surface = np.where(inverse > 0, np.int32(GROUND_ROW * FACES + TOP), np.int32(SKY_ROW * FACES))
    return np.maximum(inverse, 0), surface


def _corners(solids: np.ndarray) -> np.ndarray:
    """(N, 8, 3), of a box around each."""
    high = solids["y1"] - solids["y0"]
    slope = solids["slope"]
    half = solids["half"]
    made = np.empty((len(solids), 8, 3))
    top = _CORNERS[:, 1] > 0
    for axis, (low, far) in enumerate(((0, 1), (2, 3))):
        name = "xz"[axis]
        for side, which in ((-1, low), (1, far)):
            columns = _CORNERS[:, 2 * axis] == side
            lean = np.where(top[columns][None], (slope[:, which] * high)[:, None], 0.0)
            made[:, columns, 2 * axis] = solids[name][:, None] + side * (half[:, axis, None] - lean)
    made[:, :, 1] = np.where(top[None], solids["y1"][:, None], solids["y0"][:, None])
    return made


def bounds(local: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The samples that each body may cover, [left, right, top, low), and its least depth in front of the camera."""
    depth = local[..., 2]
    front = depth > NEAR
    safe = np.where(front, depth, 1.0)
    u = np.where(front, local[..., 0] / safe, np.nan)
    v = np.where(front, -local[..., 1] / safe, np.nan)
    limits = np.stack([np.fmin.reduce(u, 1), np.fmax.reduce(u, 1), np.fmin.reduce(v, 1), np.fmax.reduce(v, 1)], 1)
    cut = np.flatnonzero(~front.all(1))
    if len(cut):  # where edges pass the plane in front of the camera
        one, other = local[cut][:, _EDGES[:, 0]], local[cut][:, _EDGES[:, 1]]  # (C, 12, 3)
        across = (one[..., 2] > NEAR) != (other[..., 2] > NEAR)
        step = np.where(across, other[..., 2] - one[..., 2], 1.0)
        share = (NEAR - one[..., 2]) / step
        u = np.where(across, (one[..., 0] + share * (other[..., 0] - one[..., 0])) / NEAR, np.nan)
        v = np.where(across, -(one[..., 1] + share * (other[..., 1] - one[..., 1])) / NEAR, np.nan)
        there = limits[cut]
        limits[cut] = np.stack(
            [
                np.fmin(there[:, 0], np.fmin.reduce(u, 1)),
                np.fmax(there[:, 1], np.fmax.reduce(u, 1)),
                np.fmin(there[:, 2], np.fmin.reduce(v, 1)),
                np.fmax(there[:, 3], np.fmax.reduce(v, 1)),
            ],
            1,
        )
    box = np.stack(
        [
            np.searchsorted(camera.across, limits[:, 0], "left"),
            np.searchsorted(camera.across, limits[:, 1], "right"),
            np.searchsorted(camera.down, limits[:, 2], "left"),
            np.searchsorted(camera.down, limits[:, 3], "right"),
        ],
        1,
    )
    return box, np.maximum(depth.min(1), NEAR)


def flat_corners(x: np.ndarray, z: np.ndarray, half_x: np.ndarray, half_z: np.ndarray) -> np.ndarray:
    """(N, 8, 3), of areas of the ground."""
    corners = np.stack([x, np.zeros_like(x), z], 1)[:, None] + np.stack([half_x, half_x, half_z], 1)[:, None] * _CORNERS
    corners[..., 1] = 0
    return corners


def _planes(solids: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The six planes of each frustum as w = a u + b v + c, (N, 6, 3), those that are met from outside first; which
    these are; and which faces they are."""
    count = len(solids)
    normals = np.zeros((count, 6, 3))
    reach = np.empty((count, 6))  # k - n.c
    y = camera.at[1]
    for face, (axis, sign) in enumerate(((0, -1), (0, 1), (2, -1), (2, 1))):
        slope, name = solids["slope"][:, face], "x z"[axis]
        normals[:, face, axis], normals[:, face, 1] = sign, slope
        here = sign * (camera.at[axis] - solids[name])
        reach[:, face] = solids["half"][:, axis // 2] - here - slope * (y - solids["y0"])
    normals[:, 4, 1], normals[:, 5, 1] = 1, -1
    reach[:, 4], reach[:, 5] = solids["y1"] - y, y - solids["y0"]
    reach = np.where(np.abs(reach) < 1e-6, 1e-6, reach)
    planes = normals @ (camera.axes.T * (1, -1, 1)) / reach[..., None]  # along right, down and ahead
    outside = reach < 0
    order = np.argsort(~outside, axis=1, kind="stable")
    planes = np.take_along_axis(planes, order[..., None], 1).astype(np.float32)
    return planes, np.take_along_axis(outside, order, 1), order.astype(np.int32)


def _into_frustum(
    planes: np.ndarray, fronts: int, faces: np.ndarray, u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray | int]:
    if not fronts:  # the camera is inside
        return np.zeros((), np.float32), np.ones((), np.float32), 0
    a, b, c = planes.T[:, :, None, None]
    met = (b * v + c)[..., None] + (a * u)[:, None]  # (6, h, 2, w)
    leave = np.maximum.reduce(met[fronts:])
    if fronts == 1:
        return met[0], leave, faces[0]
    if fronts == 2:
        return np.minimum(met[0], met[1]), leave, np.where(met[0] < met[1], faces[0], faces[1])
    entry = np.minimum(met[0], met[1])
    side = np.where(met[0] < met[1], faces[0], faces[1])
    for number in range(2, fronts):
        side = np.where(met[number] < entry, faces[number], side)
        entry = np.minimum(entry, met[number])
    return entry, leave, side


def _into_frustums(
    planes: np.ndarray,
    outside: np.ndarray,
    faces: np.ndarray,
    quadrics: np.ndarray,
    row: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The same for rays (n,) at frustums of their own: where each enters, -1 where it does not, and by which face."""
    of = planes[row]  # (n, 6, 3)
    met = of[:, :, 0] * u[:, None] + of[:, :, 1] * v[:, None] + of[:, :, 2]
    front = outside[row]
    first = np.where(front, met, np.float32(np.inf))
    number = first.argmin(1)
    entry = first[np.arange(len(row)), number]
    leave = np.where(front, np.float32(-np.inf), met).max(1, initial=-np.inf)
    return np.where((entry > leave) & (entry < np.inf), entry, np.float32(-1)), faces[row, number]


def _into_balls(
    planes: np.ndarray,
    outside: np.ndarray,
    faces: np.ndarray,
    quadrics: np.ndarray,
    row: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    a, b_u, b_v, b_1, uu, vv, one, uv, u1, v1 = quadrics[row].T
    under = (uu * u + uv * v + u1) * u + (vv * v + v1) * v + one
    entry = (np.sqrt(np.maximum(under, 0)) - (b_u * u + b_v * v + b_1)) / a
    return np.where((under >= 0) & (a > 0), entry, np.float32(-1)), np.full(len(row), BALL, np.int32)


def _quadrics(solids: np.ndarray, camera: Camera) -> np.ndarray:
    """Of each ellipsoid: a w^2 + 2 b w + q = 0 with b linear and b^2 - a q of second degree in u and v, (N, 10)."""
    radii = np.stack([solids["half"][:, 0], (solids["y1"] - solids["y0"]) / 2, solids["half"][:, 1]], 1)
    radii = np.maximum(radii, 1e-6)
    middle = np.stack([solids["x"], (solids["y0"] + solids["y1"]) / 2, solids["z"]], 1)
    away = (camera.at - middle) / radii  # (N, 3)
    basis = (camera.axes * np.array([1, -1, 1])[:, None])[None] / radii[:, None]  # (N, 3 of u v 1, 3)
    a = (away * away).sum(1) - 1
    b = (basis * away[:, None]).sum(2)  # (N, 3)
    gram = (basis[:, :, None] * basis[:, None, :]).sum(3)  # (N, 3, 3)
    under = b[:, :, None] * b[:, None, :] - a[:, None, None] * gram
    i, j = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
    twice = np.array([1, 1, 1, 2, 2, 2])
    return np.concatenate([a[:, None], b, under[:, i, j] * twice], 1).astype(np.float32)


def _into_ball(quadric: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a, b_u, b_v, b_1, uu, vv, one, uv, u1, v1 = quadric.tolist()
    if a <= 0:  # the camera is inside
        return np.full((*v.shape, u.shape[1]), -1, np.float32)
    v = v[..., None]
    under = (u * uv) * v
    under += (uu * u + u1) * u
    under += (vv * v + v1) * v + one
    miss = under < 0
    entry = np.sqrt(np.maximum(under, 0, out=under), out=under)
    entry -= b_u * u
    entry -= b_v * v + b_1
    entry *= 1 / a
    entry[miss] = -1
    return entry
