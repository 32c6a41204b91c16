"""How the camera's car drives: along its lane, round corners, slower and faster, to a stop; ten frames a second."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vallum.data.worlds.street_city import City

SECONDS = 0.1  # from frame to frame
SIGHT = 60.0  # metres: at no speed it brakes sooner
LEAST_TURN = 5.5  # metres: the radius of a turn to the right


@dataclass(frozen=True)
class Station:
    """Where the car is in one frame."""

    x: float
    z: float
    heading: float  # radians, from ahead (z) to the right (x)
    travelled: float  # metres since the first frame
    speed: float
    street: tuple[int, int]  # along z (0) or x (1), and which of those


def drive(city: City, stream: np.random.Generator, frames: int) -> tuple[list[Station], bool]:
    """A station for each frame, and whether the car waits at a crossing where others pass."""
    roll = [float(number) for number in stream.random(6)]
    turns = [float(number) for number in stream.random(64)]
    pauses = [float(number) for number in stream.random(64)]
    wobble = [float(number) for number in stream.random(4)]
    cruise = 4.5 + 8.0 * roll[0]
    begin = roll[1] * city.pitch_z
    waits = roll[2] < 0.1
    stop = city.pitch_z - city.road - 5.2  # before the first crossing's stop line
    if waits:
        begin, cruise = stop, min(cruise, 9.0)  # those that crossed stay ahead
    pieces = _pieces(city, turns, begin + cruise * frames * SECONDS)
    here, speed, waiting = begin, (0.0 if waits else None), (40 if waits else 0)
    stations, passed = [], 0
    for _ in range(frames):
        piece, within = _find(pieces, here)
        limit = min(cruise, 5.5) if piece.turn else cruise
        ahead = next((p for p in pieces if p.begin >= here and p.turn), None)
        if ahead is not None:
            limit = min(limit, math.sqrt(5.5**2 + 2 * 1.8 * (ahead.begin - here)))
        crossing = int((here + 1e-6 - stop) // city.pitch_z) + 1  # the next stop line, as long as the way is straight
        gap = stop + crossing * city.pitch_z - here
        red = pauses[crossing % len(pauses)] < 0.3 and crossing >= passed and not waits
        if red:
            limit = min(limit, math.sqrt(2 * 2.0 * max(gap, 0.0)))
        if speed is None:
            speed = limit
        speed = min(limit, speed + 1.6 * SECONDS) if speed <= limit else max(limit, speed - 4.0 * SECONDS)
        if waiting:
            speed, waiting = 0.0, waiting - 1
        elif red and gap < 0.3:
            speed, waiting, passed = 0.0, 25, crossing + 1
        sway = 0.10 * math.sin(0.35 * here * (0.2 + 0.2 * wobble[0]) + 6.28 * wobble[1])
        stations.append(piece.at(within, sway, here - begin, speed))
        here += speed * SECONDS
    return stations, waits


@dataclass(frozen=True)
class _Piece:
    """A straight or a quarter circle of the way."""

    begin: float  # metres along the way
    length: float
    x: float
    z: float
    heading: int  # in quarter turns to the right
    turn: int  # 1 right, -1 left, 0 straight
    street: tuple[int, int]

    def at(self, within: float, sway: float, travelled: float, speed: float) -> Station:
        ahead, right = _AHEAD[self.heading % 4], _AHEAD[(self.heading + 1) % 4]
        if self.turn:
            radius = self.length / (math.pi / 2)
            angle = within / radius
            along, aside = radius * math.sin(angle), self.turn * radius * (1 - math.cos(angle))
            lean, sway = self.turn * angle, 0.0
        else:
            along, aside, lean = within, 0.0, 0.0
        aside += sway * min(1.0, within / 5, (self.length - within) / 5)
        x = self.x + ahead[0] * along + right[0] * aside
        z = self.z + ahead[1] * along + right[1] * aside
        heading = self.heading * math.pi / 2 + lean
        return Station(round(x, 6), round(z, 6), round(heading, 9), travelled, speed, self.street)


_AHEAD = ((0, 1), (1, 0), (0, -1), (-1, 0))  # x and z, by heading


def _find(pieces: list[_Piece], here: float) -> tuple[_Piece, float]:
    piece = next((p for p in pieces if here < p.begin + p.length), pieces[-1])
    return piece, here - piece.begin


def _pieces(city: City, turns: list[float], far: float) -> list[_Piece]:
    """The way from crossing (0, 0) on, in the right lane of its street, until the turn that is seen from so far on."""
    pieces: list[_Piece] = []
    column, row, heading = 0, 0, 0
    lane, begin = city.lane, 0.0
    x, z = lane, 0.0
    for number in range(40):
        ahead, right = _AHEAD[heading % 4], _AHEAD[(heading + 1) % 4]
        column, row = column + ahead[0], row + ahead[1]
        chance = turns[number % len(turns)]
        turn = 0 if chance < 0.55 else 1 if chance < 0.78 else -1
        radius = LEAST_TURN if turn == 1 else LEAST_TURN + 2 * lane
        # Turning right ends in the right lane of the street that crosses, which is on this side of its middle.
        middle = column * city.pitch_x if ahead[0] else row * city.pitch_z
        sign = ahead[0] + ahead[1]
        goal = middle - sign * turn * lane  # where the car leaves its street's direction behind
        here = x if ahead[0] else z
        street = (1, round(z / city.pitch_z)) if ahead[0] else (0, round(x / city.pitch_x))
        straight = (goal - here) * sign - (radius if turn else 0.0)
        pieces.append(_Piece(begin, straight, x, z, heading, 0, street))
        begin, x, z = begin + straight, x + ahead[0] * straight, z + ahead[1] * straight
        if turn:
            length = radius * math.pi / 2
            pieces.append(_Piece(begin, length, x, z, heading, turn, street))
            begin += length
            x += ahead[0] * radius + turn * right[0] * radius
            z += ahead[1] * radius + turn * right[1] * radius
            heading += turn
            if begin > far + SIGHT:
                break
    return pieces
