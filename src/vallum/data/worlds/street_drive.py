"""One drive through a city of its own: frames with all that is known of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_eye import Camera
from vallum.data.worlds.street_light import Light
from vallum.data.worlds.street_picture import Picture, photograph
from vallum.data.worlds.street_route import SECONDS, Station, drive
from vallum.data.worlds.street_solids import together
from vallum.data.worlds.street_traffic import Traffic

HORIZON = 0.46  # share of a picture's height above the camera's axis
TOGETHER = 64_000  # pixels: of more, what is computed no longer fits into a processor's cache
FAR, NEAR = 190.0, 75.0  # metres to which houses, and smaller things, are seen
_FLIP = np.diag([1.0, -1.0, 1.0])  # from y up to y down, as cameras have it


class Drive:
    """Frames 0 to `frames` - 1; all chance is drawn from `stream`, so a drive is what its stream and its length are."""

    def __init__(self, stream: np.random.Generator, frames: int, size: tuple[int, int], focal: float) -> None:
        self.city, self.light = City.of(stream), Light.of(stream)
        self.way, waits = drive(self.city, stream, frames)
        roll = stream.random(8)
        self.high = 1.3 + 0.45 * float(roll[0])
        self.shake = [float(number) for number in roll[1:]]
        self.still = self.city.blocks(stream, self._blocks(), self._near)
        self.traffic = Traffic(self.city, stream, self.way, waits)
        self.grain = int(stream.integers(2**62))
        self.size = size
        height, width = size
        self.intrinsics = np.array(
            [[focal * width, 0, (width - 1) / 2], [0, focal * width, HORIZON * (height - 1)], [0, 0, 1]]
        )

    def frame(self, number: int) -> Picture:
        return self.frames([number])[0]

    def frames(self, numbers: Sequence[int]) -> list[Picture]:
        """The same as one by one, and sooner where they are small."""
        at_once = max(1, TOGETHER // math.prod(self.size))
        return [
            picture
            for begin in range(0, len(numbers), at_once)
            for picture in self._together(numbers[begin : begin + at_once])
        ]

    def _together(self, numbers: Sequence[int]) -> list[Picture]:
        cameras, solids = [self.camera(number) for number in numbers], [self.solids(number) for number in numbers]
        grain = np.empty((len(numbers), *self.size, 3), np.float32)
        for number, made in zip(numbers, grain, strict=True):
            stream = np.random.Generator(np.random.Philox(key=np.array([self.grain, number], np.uint64)))
            stream.random(out=made, dtype=np.float32)
        return photograph(cameras, solids, self.city, self.light, grain * np.float32(2) - np.float32(1))

    def pose(self, number: int) -> np.ndarray:
        """(4, 4): from the camera's coordinates, x right, y down, z ahead, to the world's."""
        camera = self.camera(number)
        made = np.eye(4)
        made[:3, :3] = _FLIP @ camera.axes.T @ _FLIP
        made[:3, 3] = _FLIP @ camera.at
        return made

    def camera(self, number: int) -> Camera:
        here = self.way[number]
        before = self.way[number - 1].speed if number else here.speed
        brake = (here.speed - before) / SECONDS
        one, two, three, *rates = self.shake
        time = number * SECONDS * min(1.0, here.speed / 3)
        pitch = 0.004 * math.sin(6.2 * time * (0.6 + rates[0]) + 6.28 * one) + 0.002 * brake
        roll = 0.0035 * math.sin(5.1 * time * (0.6 + rates[1]) + 6.28 * two)
        heave = 0.014 * math.sin(7.7 * time * (0.6 + rates[2]) + 6.28 * three)
        axes = _axes(here.heading, pitch, roll)
        return Camera(np.array([here.x, self.high + heave, here.z]), axes, *_samples(self.size, self.intrinsics))

    def solids(self, number: int) -> np.ndarray:
        """What stands where in this frame."""
        walking = self.still["velocity"] * (number * SECONDS)
        still = self.still
        if walking.any():
            still = together([still])
            still["x"] += walking[:, 0]
            still["z"] += walking[:, 1]
        return together([still, self.traffic.at(number)])

    def _blocks(self) -> list[tuple[int, int]]:
        """Those that are seen from anywhere along the way."""
        found: dict[tuple[int, int], None] = {}
        pitch = np.array([self.city.pitch_x, self.city.pitch_z])
        for station in self._lookouts():
            here = np.array([station.x, station.z])
            low, high = np.floor((here - FAR) / pitch).astype(int), np.floor((here + FAR) / pitch).astype(int)
            blocks = [(i, j) for i in range(low[0], high[0] + 1) for j in range(low[1], high[1] + 1)]
            middle = (np.array(blocks) + 0.5) * pitch
            along, aside = _ahead_of(station, middle[:, 0], middle[:, 1])
            wide = pitch.max()
            seen = (along > -0.6 * wide) & (along < FAR) & (aside < 0.75 * wide + 0.3 * np.maximum(along, 0))
            found |= dict.fromkeys(block for block, there in zip(blocks, seen, strict=True) if there)
        return list(found)

    def _near(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Whether small things at these places are seen from anywhere along the way."""
        seen = np.zeros(x.shape, bool)
        for station in self._lookouts():
            along, aside = _ahead_of(station, x, z)
            seen |= (along > -6) & (along < NEAR) & (aside < 12 + along)
        return seen

    def _lookouts(self) -> list[Station]:
        """Stations so close together that nothing comes into sight between them."""
        return [*self.way[:-1:15], self.way[-1]]


def _ahead_of(station: Station, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far ahead of a station places lie, and how far aside."""
    sine, cosine = math.sin(station.heading), math.cos(station.heading)
    dx, dz = x - station.x, z - station.z
    return dx * sine + dz * cosine, np.abs(dx * cosine - dz * sine)


def _axes(heading: float, pitch: float, roll: float) -> np.ndarray:
    """Rows: where the camera's right, up and ahead point, with y up."""
    turn = np.array([[math.cos(heading), 0, -math.sin(heading)], [0, 1, 0], [math.sin(heading), 0, math.cos(heading)]])
    nod = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    lean = np.array([[math.cos(roll), math.sin(roll), 0], [-math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    return lean @ nod @ turn


def _samples(size: tuple[int, int], intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    focal, across, down = float(intrinsics[0, 0]), float(intrinsics[0, 2]), float(intrinsics[1, 2])
    return _line(size[1], focal, across), _line(size[0], focal, down)


@functools.cache
def _line(count: int, focal: float, middle: float) -> np.ndarray:
    """Samples half a pixel apart, the first and the last at the outer edges of the first and the last pixel."""
    return (((np.arange(2 * count + 1) - 1) / 2 - middle) / focal).astype(np.float32)
