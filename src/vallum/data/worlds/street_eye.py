"""Ray casting: which surface each sample of a picture sees first, and how far away.

A ray leaves the camera along d(u, v), whose part along the camera's axis is 1, so that the distance t along it is the
depth. In w = 1 / t a plane is linear: n.(c + d / w) = k gives w = n.d / (k - n.c). A ray enters a convex body through
the last of the planes that it meets from outside, where w is the least of theirs, and leaves it through the first of
the others, where w is the greatest; the body is hit where the former is nearer. The nearest body has the greatest w.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vallum.data.worlds.street_solids import TOP, chosen

NEAR = 0.25  # metres: what is nearer is not seen
FACES = 8  # ids of surfaces: row * FACES + face; of each frame first the ground and the sky, then what is seen
GROUND_ROW, SKY_ROW, FIRST_ROW = 0, 1, 2
GROUND, SKY = -2, -1  # in place of a solid's number
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

    def directions(self, picked: np.ndarray) -> np.ndarray:
        """(3, n): x, y and z of the rays of samples, numbered as they lie in the lattice."""
        right, up, ahead = self.axes.astype(np.float32)[:, :, None]
        across, down = self.lattice
        row = picked // across.shape[1]
        column = picked - row * across.shape[1] + (row & 1) * across.shape[1]
        return ahead - up * down.ravel().take(row) + right * across.ravel().take(column)


@dataclass(frozen=True)
class Rig:
    """The cameras of several frames, with samples alike. Each sees solids of its own, which are listed by frame: what
    is small is computed for all of them at once."""

    cameras: Sequence[Camera]

    @functools.cached_property
    def at(self) -> np.ndarray:
        """(3, F)"""
        return np.stack([camera.at for camera in self.cameras], 1)

    @functools.cached_property
    def axes(self) -> np.ndarray:
        """(3, 3, F)"""
        return np.stack([camera.axes for camera in self.cameras], 2)

    @property
    def across(self) -> np.ndarray:
        return self.cameras[0].across

    @property
    def down(self) -> np.ndarray:
        return self.cameras[0].down

    def turned(self, vectors: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Vectors (3, k, N) of the world, in these frames (N,): how far to the right, up and ahead they lead."""
        found = np.empty_like(vectors)
        ends = np.searchsorted(frame, np.arange(len(self.cameras) + 1)).tolist()
        for camera, (begin, end) in zip(self.cameras, pairwise(ends), strict=True):
            part = vectors[:, :, begin:end]
            found[:, :, begin:end] = (camera.axes @ part.reshape(3, -1)).reshape(part.shape)
        return found

    def sees(self, points: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Where points (3, k, N) of the world lie from the camera."""
        return self.turned(points - self.at[:, None, frame], frame)


@dataclass(frozen=True)
class Seen:
    """What the samples see: the id of a surface, and one over its depth."""

    surface: np.ndarray  # (F, H + 1, 2, W + 1) int32, as the cameras' lattices
    inverse: np.ndarray  # (F, H + 1, 2, W + 1) float32
    rows: np.ndarray  # (rows,) which of the solids each row of the ids is; or GROUND or SKY
    frame: np.ndarray  # (rows,) whose it is


def cast(rig: Rig, solids: np.ndarray, frame: np.ndarray) -> Seen:
    """Every sample's surface: the ground at y = 0, the sky, or a face of one of the frame's solids."""
    ahead = _in_front(solids, frame, rig)
    box, nearest = bounds(rig.sees(_corners(chosen(solids, ahead)), frame[ahead]), rig)
    kept = np.flatnonzero((box[1] > box[0]) & (box[3] > box[2]))
    order = kept[np.lexsort((nearest[kept], frame[ahead[kept]]))]
    some, box, nearest = ahead[order], box[:, order], nearest[order]
    box[1::2] += 1
    box //= 2  # from lines to pairs of them
    bodies = _Bodies(rig, chosen(solids, some), frame[some])
    starts = np.searchsorted(bodies.frame, np.arange(len(rig.cameras))) + FIRST_ROW * np.arange(len(rig.cameras))
    inverse, surface = _ground(rig, starts)
    large = 2 * (box[1] - box[0]) * (box[3] - box[2]) > SMALL
    bodies.draw(np.flatnonzero(large), box, nearest, inverse, surface)
    bodies.scatter(np.flatnonzero(~large), box, nearest, inverse, surface)
    rows, whose = np.full(len(some) + FIRST_ROW * len(starts), SKY), np.empty(len(some) + FIRST_ROW * len(starts), int)
    rows[starts], rows[bodies.row] = GROUND, some
    whose[starts], whose[starts + SKY_ROW], whose[bodies.row] = *[np.arange(len(starts))] * 2, bodies.frame
    return Seen(surface, inverse, rows, whose)


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


def _in_front(solids: np.ndarray, frame: np.ndarray, rig: Rig) -> np.ndarray:
    """The rows of solids that a picture may show larger than a sample, from spheres around them."""
    high = (solids["y1"] - solids["y0"]) / 2
    half = solids["half"]
    radius = np.sqrt(half[:, 0] * half[:, 0] + half[:, 1] * half[:, 1] + high * high)
    right, _, depth = rig.sees(np.stack([solids["x"], solids["y0"] + high, solids["z"]])[:, None], frame)[:, 0]
    sample, edge = rig.across[1] - rig.across[0], max(-rig.across[0], rig.across[-1])
    within = np.abs(right) - radius * (1 + edge * edge) ** 0.5 < edge * depth
    return np.flatnonzero((depth > NEAR - radius) & within & (2 * radius > sample * depth))


def _ground(rig: Rig, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, up, ahead = (rig.axes[:, 1] / rig.at[1]).astype(np.float32)[:, :, None, None]  # (F, 1, 1)
    across, down = rig.cameras[0].lattice
    inverse = (up * down - ahead)[..., None] - right[..., None] * across
    ground = (starts * FACES).astype(np.int32)[:, None, None, None]
    surface = ground + np.where(inverse > 0, np.int32(GROUND_ROW * FACES + TOP), np.int32(SKY_ROW * FACES))
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


def bounds(local: np.ndarray, rig: Rig) -> tuple[np.ndarray, np.ndarray]:
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
            np.searchsorted(rig.across, least[0], "left"),
            np.searchsorted(rig.across, most[0], "right"),
            np.searchsorted(rig.down, -most[1], "left"),
            np.searchsorted(rig.down, -least[1], "right"),
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
    """Solids as their cameras' rays meet them, by frame, the nearest first."""

    def __init__(self, rig: Rig, solids: np.ndarray, frame: np.ndarray) -> None:
        self.across, self.down = rig.cameras[0].lattice
        self.frame = frame
        self.row = np.arange(len(solids)) + FIRST_ROW * (frame + 1)
        self.start = (self.row * FACES).astype(np.int32)
        self.planes, self.outside, faces = _planes(solids, frame, rig)
        self.faces = faces + self.start[:, None]
        self.round = solids["round"]
        self.quadrics = _quadrics(solids, frame, rig)

    def draw(
        self, some: np.ndarray, box: np.ndarray, nearest: np.ndarray, inverse: np.ndarray, surface: np.ndarray
    ) -> None:
        """Some of them one by one over what is seen already."""
        planes, rounds = self.planes[some], self.round[some].tolist()
        below = planes[:, :, 1, None, None] * self.down + planes[:, :, 2, None, None]  # (n, 6, H + 1, 2)
        fronts = self.outside[some].sum(1).tolist()
        for place, (number, frame, (left, right, top, low)) in enumerate(
            zip(some.tolist(), self.frame[some].tolist(), box[:, some].T.tolist(), strict=True)
        ):
            window, there = inverse[frame, top:low, :, left:right], surface[frame, top:low, :, left:right]
            if np.minimum.reduce(window, axis=None) * nearest[number] >= 1:  # all of it is hidden
                continue
            u, front = self.across[:, left:right], fronts[place]
            if rounds[place]:
                entry = _into_ball(self.quadrics[number], u, self.down[top:low])
                hit = entry > window
                np.copyto(there, self.start[number] + BALL, where=hit)
                np.copyto(window, entry, where=hit)
                continue
            if not front:  # the camera is inside
                continue
            met = below[place, :, top:low, :, None] + (planes[place, :, 0, None, None] * u)[:, None]  # (6, h, 2, w)
            leave, faces = np.maximum.reduce(met[front:]), self.faces[number]
            first = min(front, 2) - 1
            entry, nearer = met[first], []
            for other in (0, 2)[: front - 1]:  # at the edge of the first two, the second is seen
                nearer.append((other, met[other] < entry))
                entry = np.minimum(entry, met[other])
            hit = entry > np.maximum(leave, window, out=leave)
            np.copyto(there, faces[first], where=hit)
            for other, where in nearer:
                np.copyto(there, faces[other], where=np.logical_and(where, hit, out=where))
            np.copyto(window, entry, where=hit)

    def scatter(
        self, some: np.ndarray, box: np.ndarray, nearest: np.ndarray, inverse: np.ndarray, surface: np.ndarray
    ) -> None:
        """The same for small ones, all their samples in one list."""
        high, wide = self.down.shape[0], self.across.shape[1]
        of, pair, across = listed(*box[:, some])
        of = some[of]
        place = (self.frame[of] * high + pair) * (2 * wide) + across  # of corners; those of centres follow
        of, across, place = np.tile(of, 2), np.tile(across, 2), np.concatenate([place, place + wide])
        seen = inverse.ravel()
        visible = np.flatnonzero(seen.take(place) * nearest.astype(np.float32).take(of) < 1)
        of, across, place = of.take(visible), across.take(visible), place.take(visible)
        line = place // wide % (2 * high)
        u, v = self.across[line & 1, across], self.down.ravel().take(line)
        entry, side = np.empty(len(of), np.float32), np.empty(len(of), np.int32)
        rounds = self.round.take(of)
        for where, into in ((np.flatnonzero(~rounds), self._into_frustums), (np.flatnonzero(rounds), self._into_balls)):
            entry[where], side[where] = into(of[where], u[where], v[where])
        hit = np.flatnonzero(entry > seen.take(place))
        hit = hit[np.argsort(entry[hit], kind="stable")]  # of several at one place the nearest is written last
        seen[place[hit]] = entry[hit]
        surface.ravel()[place[hit]] = side[hit]

    def _into_frustums(self, of: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For rays (n,) at bodies of their own: where each enters, -1 where it does not, and by which surface."""
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


def _planes(solids: np.ndarray, frame: np.ndarray, rig: Rig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The six planes of each frustum as w = a u + b v + c, (N, 6, 3), those that are met from outside first; which
    these are; and which faces they are."""
    count = len(solids)
    normals = np.zeros((3, 6, count))
    reach = np.empty((6, count))  # k - n.c
    at, half, slope = rig.at[:, frame], solids["half"], solids["slope"].T
    above = at[1] - solids["y0"]
    for face, (axis, sign) in enumerate(((0, -1), (0, 1), (2, -1), (2, 1))):
        normals[axis, face], normals[1, face] = sign, slope[face]
        reach[face] = half[:, axis // 2] - sign * (at[axis] - solids["x z"[axis]]) - slope[face] * above
    normals[1, 4], normals[1, 5] = 1, -1
    reach[4], reach[5] = solids["y1"] - at[1], above
    reach[np.abs(reach) < 1e-6] = 1e-6
    planes = rig.turned(normals, frame) / reach
    planes[1] *= -1  # from up to down
    outside = reach < 0
    order = np.argsort(~outside.T, axis=1, kind="stable")
    planes = np.take_along_axis(planes.T, order[..., None], 1).astype(np.float32)
    return planes, np.take_along_axis(outside.T, order, 1), order.astype(np.int32)


def _quadrics(solids: np.ndarray, frame: np.ndarray, rig: Rig) -> np.ndarray:
    """Of each ellipsoid: a w^2 + 2 b w + q = 0 with b linear and b^2 - a q of second degree in u and v, (N, 10)."""
    made = np.zeros((len(solids), 10), np.float32)
    balls = np.flatnonzero(solids["round"])
    x, z, low, high = (solids[name].take(balls) for name in ("x", "z", "y0", "y1"))
    half, frame = solids["half"].take(balls, 0).T, frame[balls]
    radii = np.maximum(np.stack([half[0], (high - low) / 2, half[1]]), 1e-6)  # (3, n)
    away = (rig.at[:, frame] - np.stack([x, (low + high) / 2, z])) / radii
    basis = (rig.axes * np.array([1, -1, 1])[:, None, None])[:, :, frame] / radii  # (3 of u v 1, 3, n)
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
