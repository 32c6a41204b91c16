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

from vallum.data.worlds.street_solids import TOP, chosen

NEAR = 0.25  # metres: what is nearer is not seen
FACES = 8  # ids of surfaces: row * FACES + face, after those of the sky and the ground
GROUND_ROW, SKY_ROW, FIRST_ROW = 0, 1, 2
BALL = 6  # the face of an ellipsoid
SMALL = 120  # samples: bodies that cover no more are cast together
_EDGES = np.array([(a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit]).T  # of a box's corners 0..7


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

    @property
    def centres(self) -> np.ndarray:
        """(3, H, W): x, y and z of the rays of the pixels' centres."""
        right, up, ahead = self.axes.astype(np.float32)[:, :, None, None]
        across, down = self.lattice
        return (ahead - up * down[:-1, 1, None]) + right * across[1, :-1]

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Where points (3, ...) of the world lie: to its right, up and ahead."""
        moved = points.reshape(3, -1) - self.at[:, None]
        return (self.axes @ moved).reshape(points.shape)

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


def cast(camera: Camera, solids: np.ndarray, first: int = 0) -> Seen:
    """Every sample's surface: the ground at y = 0, the sky, or a face of one of the solids. Rows count from `first`."""
    inverse, surface = _ground(camera, first)
    ahead = _in_front(solids, camera)
    local = camera.sees(_corners(chosen(solids, ahead)))  # (3, 8, N)
    box, nearest = bounds(local, camera)
    kept = np.flatnonzero((box[1] > box[0]) & (box[3] > box[2]))
    order = kept[np.argsort(nearest[kept], kind="stable")]
    rows, nearest = ahead[order], nearest[order]
    box = box[:, order]
    box[1::2] += 1
    box //= 2  # from lines to pairs of them
    seen = chosen(solids, rows)
    bodies = _Bodies(camera, seen, first + FIRST_ROW)
    large = 2 * (box[1] - box[0]) * (box[3] - box[2]) > SMALL
    bodies.draw(np.flatnonzero(large), box, nearest, inverse, surface)
    small = np.flatnonzero(~large)
    of, line, across = listed(*box[:, small])  # lines in pairs
    place = line * (2 * inverse.shape[2]) + across
    of, across = (np.concatenate([values, values]) for values in (small[of], across))
    place = np.concatenate([place, place + inverse.shape[2]])
    open_yet = np.flatnonzero(inverse.ravel().take(place) * nearest.astype(np.float32).take(of) < 1)
    of, place, across = of.take(open_yet), place.take(open_yet), across.take(open_yet)
    line = place // inverse.shape[2]
    entry, side = bodies.enter(of, camera.lattice[0][line & 1, across], camera.lattice[1].ravel().take(line))
    hit = np.flatnonzero(entry > inverse.ravel().take(place))
    hit = hit[np.argsort(entry[hit], kind="stable")]  # of several at one place the nearest is written last
    inverse.ravel()[place[hit]] = entry[hit]
    surface.ravel()[place[hit]] = side[hit]
    return Seen(surface, inverse, rows)


def listed(left: np.ndarray, right: np.ndarray, top: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, ...]:
    """All places of all boxes in one list: the number of the box, the line, the column.

    >>> [part.tolist() for part in listed(*np.array([[3, 0], [5, 1], [7, 2], [9, 3]]))]
    [[0, 0, 0, 0, 1], [7, 7, 8, 8, 2], [3, 4, 3, 4, 0]]
    """
    box, line = _spans(top, np.maximum(low - top, 0))
    of, column = _spans(left.take(box), np.maximum(right - left, 0).take(box))
    return box.take(of), line.take(of), column


def _spans(begin: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of whole numbers, so many each, in one list: the number of the run, and the number."""
    of = np.repeat(np.arange(len(count)), count)
    return of, np.arange(len(of)) + (begin + count - np.cumsum(count)).take(of)


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


def _ground(camera: Camera, first: int) -> tuple[np.ndarray, np.ndarray]:
    right, up, ahead = (camera.axes[:, 1] / camera.at[1]).astype(np.float32)
    across, down = camera.lattice
    inverse = (up * down - ahead)[:, :, None] - right * across
    ground, sky = (np.int32((first + row) * FACES) for row in (GROUND_ROW, SKY_ROW))
    surface = np.where(inverse > 0, ground + np.int32(TOP), sky)
    return np.maximum(inverse, 0, out=inverse), surface


def _corners(solids: np.ndarray) -> np.ndarray:
    """(3, 8, N), of a box around each; the bits of a corner's number say where it lies along x, y and z."""
    high = solids["y1"] - solids["y0"]
    half, slope = solids["half"], solids["slope"]
    made = np.empty((3, 2, 2, 2, len(solids)))
    for side, sign in enumerate((-1, 1)):
        made[0, :, 0, side] = solids["x"] + sign * half[:, 0]
        made[0, :, 1, side] = solids["x"] + sign * (half[:, 0] - slope[:, side] * high)
        made[2, side, 0] = solids["z"] + sign * half[:, 1]
        made[2, side, 1] = solids["z"] + sign * (half[:, 1] - slope[:, 2 + side] * high)
    made[1, :, 0], made[1, :, 1] = solids["y0"], solids["y1"]
    return made.reshape(3, 8, -1)


def bounds(local: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Of bodies with these corners (3, 8, N), to the right, up and ahead: the samples that each may cover, (4, N) as
    [left, right), [top, low); and its least depth in front of the camera."""
    depth = local[2]
    front = depth > NEAR
    flat = local[:2] / np.where(front, depth, 1.0)  # (2, 8, N)
    least, most = np.where(front, flat, np.inf).min(1), np.where(front, flat, -np.inf).max(1)
    cut = np.flatnonzero(~front.all(0))
    if len(cut):  # where edges pass the plane in front of the camera
        one, other = local[:, _EDGES[0, :, None], cut], local[:, _EDGES[1, :, None], cut]  # (3, 12, C)
        across = (one[2] > NEAR) != (other[2] > NEAR)
        share = (NEAR - one[2]) / np.where(across, other[2] - one[2], 1.0)
        flat = (one[:2] + share * (other[:2] - one[:2])) / NEAR
        least[:, cut] = np.minimum(least[:, cut], np.where(across, flat, np.inf).min(1))
        most[:, cut] = np.maximum(most[:, cut], np.where(across, flat, -np.inf).max(1))
    box = np.stack(
        [
            np.searchsorted(camera.across, least[0], "left"),
            np.searchsorted(camera.across, most[0], "right"),
            np.searchsorted(camera.down, -most[1], "left"),
            np.searchsorted(camera.down, -least[1], "right"),
        ]
    )
    return box, np.maximum(depth.min(0), NEAR)


def flat_corners(x: np.ndarray, z: np.ndarray, half_x: np.ndarray, half_z: np.ndarray) -> np.ndarray:
    """(3, 8, N), of areas of the ground."""
    made = np.zeros((3, 2, 2, 2, len(x)))
    for side, sign in enumerate((-1, 1)):
        made[0, :, :, side], made[2, side] = x + sign * half_x, z + sign * half_z
    return made.reshape(3, 8, -1)


class _Bodies:
    """Solids as one camera's rays meet them."""

    def __init__(self, camera: Camera, solids: np.ndarray, first: int) -> None:
        self.across, self.down = camera.lattice
        self.start = ((first + np.arange(len(solids))) * FACES).astype(np.int32)
        self.planes, self.outside, faces = _planes(solids, camera)
        self.faces = faces + self.start[:, None]
        self.round = solids["round"]
        self.fronts = self.outside.sum(1).tolist()
        self.quadrics = _quadrics(solids, camera)

    def draw(
        self, some: np.ndarray, box: np.ndarray, nearest: np.ndarray, inverse: np.ndarray, surface: np.ndarray
    ) -> None:
        """Some of them one by one, the nearest first, over what is seen already."""
        planes = self.planes[some]
        down = planes[:, :, 1, None, None] * self.down + planes[:, :, 2, None, None]  # (n, 6, H + 1, 2)
        boxes = box[:, some].T.tolist()
        for number, along, below, (left, right, top, low) in zip(some.tolist(), planes, down, boxes, strict=True):
            window, there = inverse[top:low, :, left:right], surface[top:low, :, left:right]
            fronts, u = self.fronts[number], self.across[:, left:right]
            if np.minimum.reduce(window, axis=None) * nearest[number] >= 1:  # all of it is hidden
                continue
            if self.round[number]:
                entry = _into_ball(self.quadrics[number], u, self.down[top:low])
                hit = entry > window
                np.copyto(there, self.start[number] + BALL, where=hit)
                np.copyto(window, entry, where=hit)
                continue
            if not fronts:  # the camera is inside
                continue
            met = below[:, top:low, :, None] + (along[:, 0, None, None] * u)[:, None]  # (6, h, 2, w)
            leave, faces = np.maximum.reduce(met[fronts:]), self.faces[number]
            begin = min(fronts, 2) - 1
            entry, nearer = met[begin], []
            for other in (0, 2)[: fronts - 1]:  # at the edge of the first two, the second is seen
                nearer.append((other, met[other] < entry))
                entry = np.minimum(entry, met[other])
            hit = entry > np.maximum(leave, window, out=leave)
            np.copyto(there, faces[begin], where=hit)
            for other, where in nearer:
                np.copyto(there, faces[other], where=np.logical_and(where, hit, out=where))
            np.copyto(window, entry, where=hit)

    def enter(self, of: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For rays (n,) at bodies of their own: where each enters, -1 where it does not, and by which surface."""
        entry, surface = np.empty(len(of), np.float32), np.empty(len(of), np.int32)
        rounds = self.round.take(of)
        for where, into in ((np.flatnonzero(~rounds), self._into_frustums), (np.flatnonzero(rounds), self._into_balls)):
            entry[where], surface[where] = into(of[where], u[where], v[where])
        return entry, surface

    def _into_frustums(self, of: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        planes, front = self.planes.take(of, 0), self.outside.take(of, 0)  # (n, 6, 3), (n, 6)
        met = planes[:, :, 0] * u[:, None] + planes[:, :, 1] * v[:, None] + planes[:, :, 2]
        first = np.where(front, met, np.float32(np.inf))
        number = first.argmin(1)
        entry = first[np.arange(len(of)), number]
        leave = np.where(front, np.float32(-np.inf), met).max(1, initial=-np.inf)
        return np.where((entry > leave) & (entry < np.inf), entry, np.float32(-1)), self.faces[of, number]

    def _into_balls(self, of: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b_u, b_v, b_1, uu, vv, one, uv, u1, v1 = self.quadrics.take(of, 0).T
        under = (uu * u + uv * v + u1) * u + (vv * v + v1) * v + one
        entry = (np.sqrt(np.maximum(under, 0)) - (b_u * u + b_v * v + b_1)) / a
        return np.where((under >= 0) & (a > 0), entry, np.float32(-1)), self.start.take(of) + np.int32(BALL)


def _planes(solids: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The six planes of each frustum as w = a u + b v + c, (N, 6, 3), those that are met from outside first; which
    these are; and which faces they are."""
    count = len(solids)
    normals = np.zeros((3, 6, count))
    reach = np.empty((6, count))  # k - n.c
    y, half, slope = camera.at[1], solids["half"], solids["slope"].T
    below = y - solids["y0"]
    for face, (axis, sign) in enumerate(((0, -1), (0, 1), (2, -1), (2, 1))):
        normals[axis, face], normals[1, face] = sign, slope[face]
        reach[face] = half[:, axis // 2] - sign * (camera.at[axis] - solids["x z"[axis]]) - slope[face] * below
    normals[1, 4], normals[1, 5] = 1, -1
    reach[4], reach[5] = solids["y1"] - y, below
    reach[np.abs(reach) < 1e-6] = 1e-6
    basis = camera.axes * np.array([[1], [-1], [1]])  # right, down and ahead
    planes = (basis @ normals.reshape(3, -1)).reshape(normals.shape) / reach
    outside = reach < 0
    order = np.argsort(~outside.T, axis=1, kind="stable")
    planes = np.take_along_axis(planes.T, order[..., None], 1).astype(np.float32)
    return planes, np.take_along_axis(outside.T, order, 1), order.astype(np.int32)


def _quadrics(solids: np.ndarray, camera: Camera) -> np.ndarray:
    """Of each ellipsoid: a w^2 + 2 b w + q = 0 with b linear and b^2 - a q of second degree in u and v, (N, 10)."""
    made = np.zeros((len(solids), 10), np.float32)
    balls = np.flatnonzero(solids["round"])
    x, z, low, high = (solids[name].take(balls) for name in ("x", "z", "y0", "y1"))
    half = solids["half"].take(balls, 0).T
    radii = np.maximum(np.stack([half[0], (high - low) / 2, half[1]]), 1e-6)  # (3, n)
    away = (camera.at[:, None] - np.stack([x, (low + high) / 2, z])) / radii
    basis = (camera.axes * np.array([[1], [-1], [1]]))[:, :, None] / radii  # (3 of u v 1, 3, n)
    a = (away * away).sum(0) - 1
    b = (basis * away).sum(1)  # (3, n)
    made[balls, 0], made[balls, 1:4] = a, b.T
    for column, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
        under = b[i] * b[j] - a * (basis[i] * basis[j]).sum(0)
        made[balls, 4 + column] = under if i == j else 2 * under
    return made


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
