"""The other cars that move: those that come towards the camera, the one ahead, those that cross while it waits."""

from __future__ import annotations

import numpy as np

from vallum.data.worlds import street_things as things
from vallum.data.worlds.street_city import City
from vallum.data.worlds.street_rolls import Rolls
from vallum.data.worlds.street_route import SECONDS, Station
from vallum.data.worlds.street_solids import chosen, placed, together

ONCOMING, CROSSING = 9, 7  # cars on a lane
GREEN = 3.2  # seconds until those that cross have passed


class Traffic:
    """Cars by frame."""

    def __init__(self, city: City, stream: np.random.Generator, way: list[Station], waits: bool) -> None:
        self.way = way
        self.lanes = []
        streets = list(dict.fromkeys(station.street for station in way))
        for street in streets:
            self.lanes.append(_lane(city, stream, street, _heading(way, street), ONCOMING, way))
        if waits:
            for toward in (1, -1):
                crossing = (1, round(way[0].z / city.pitch_z + 0.4))
                self.lanes.append(_lane(city, stream, crossing, toward, CROSSING, way))
        roll = [float(number) for number in stream.random(3)]
        self.ahead = None
        straight = all(station.street == way[0].street for station in way[:50])
        if roll[0] < 0.35 and straight:
            self.ahead = things.car(Rolls(stream, (1,)))[0], 7.0 + 22.0 * roll[1] * roll[1] + way[0].speed * 0.8

    def at(self, frame: int) -> np.ndarray:
        cars = [
            placed(made, 0.0, 0.0, 0) if not speed else _moved(made, speed * frame * SECONDS)
            for made, speed in self.lanes
        ]
        if self.ahead is not None:
            made, gap = self.ahead
            first = self.way[0]
            car = placed(made, first.x, first.z + gap + self.way[frame].travelled, 0)
            car["velocity"][:, 1] = 1.0
            cars.append(car)
        return together(cars)


def _heading(way: list[Station], street: tuple[int, int]) -> int:
    """1 where the camera drives up this street, -1 where it drives down."""
    on = [station for station in way if station.street == street]
    axis = [station.z if street[0] == 0 else station.x for station in on]
    if len(axis) > 1 and axis[-1] != axis[0]:
        return 1 if axis[-1] > axis[0] else -1
    return 1 if np.cos(on[0].heading) + np.sin(on[0].heading) > 0 else -1


def _lane(
    city: City,
    stream: np.random.Generator,
    street: tuple[int, int],
    heading: int,
    count: int,
    way: list[Station],
) -> tuple[np.ndarray, float]:
    """Cars that come towards whoever drives with this heading, and their speed."""
    rolls = Rolls(stream, (count,))
    crosses = count == CROSSING
    gap = 16 + (10 if crosses else 45) * float(stream.random())
    speed = 12.0 if crosses else 3.5 + 8.5 * float(stream.random())
    there = rolls.chance(0.62)
    made = things.car(rolls)
    axis, number = street
    start = way[0].x if axis else way[0].z
    along = start + heading * ((np.arange(count) - 1 + rolls.between(0, 0.5)) * gap)
    if crosses:
        there &= heading * (along - start) < GREEN * speed
    aside = number * (city.pitch_z if axis else city.pitch_x)
    turn = {(0, 1): 2, (0, -1): 0, (1, 1): 3, (1, -1): 1}[street[0], heading]
    # They keep to their right, which is the left of whoever comes towards them.
    if axis == 0:
        cars = placed(made, (aside - heading * city.lane) + 0 * along[:, None], along[:, None], turn)
        cars["velocity"][..., 1] = -heading * speed
    else:
        cars = placed(made, along[:, None], (aside + heading * city.lane) + 0 * along[:, None], turn)
        cars["velocity"][..., 0] = -heading * speed
    return chosen(cars, there), speed


def _moved(made: np.ndarray, metres: float) -> np.ndarray:
    made = together([made])
    step = np.sign(made["velocity"]) * metres
    made["x"] += step[..., 0]
    made["z"] += step[..., 1]
    return made
