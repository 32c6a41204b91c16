"""A city of blocks between straight streets, as far as a drive sees it.

Streets lie around x = i * pitch and z = j * pitch. Block (i, j) is what lies beyond street i and street j; each of its
four sides is laid out in axes of its own: z along the kerb, x from the houses to the road, the origin at a corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds import street_things as things
from vallum.data.worlds.street_rolls import Rolls
from vallum.data.worlds.street_solids import (
    BUILDING,
    FENCE,
    PAVEMENT,
    SOLID,
    VEGETATION,
    ball,
    box,
    chosen,
    placed,
    together,
    whole,
)

KERB = 0.12  # the height of the pavement
DEEP = 12.0  # metres from a house's front to its back
LOTS, TREES, CARS, LAMPS, PEOPLE = 6, 7, 11, 3, 6  # places on one side of a block
WALLS = np.array(
    [
        (0.45, 0.20, 0.13),  # brick
        (0.33, 0.13, 0.09),
        (0.62, 0.52, 0.38),  # plaster
        (0.70, 0.64, 0.52),
        (0.58, 0.42, 0.24),
        (0.72, 0.70, 0.66),
        (0.48, 0.50, 0.50),  # concrete
        (0.30, 0.31, 0.33),
        (0.50, 0.33, 0.28),
        (0.40, 0.44, 0.40),
    ]
)
TILES = np.array([(0.30, 0.10, 0.06), (0.20, 0.08, 0.06), (0.11, 0.11, 0.12), (0.25, 0.17, 0.12)])
TRIMS = np.array([(0.75, 0.74, 0.70), (0.30, 0.27, 0.24), (0.08, 0.08, 0.08), (0.70, 0.66, 0.55)])
SHOPS = np.array([(0.30, 0.02, 0.03), (0.02, 0.10, 0.25), (0.03, 0.16, 0.08), (0.45, 0.33, 0.04), (0.06, 0.06, 0.07)])


@dataclass(frozen=True)
class City:
    """What all its streets have in common."""

    pitch_x: float  # from one street to the next
    pitch_z: float
    road: float  # half of a road's width, with the lane for parking
    pavement: float
    verge: float  # width of the grass between kerb and pavement
    parking: float  # width of the parking lane
    urban: float  # 0: low houses behind gardens; 1: a closed front of tall ones
    green: float  # share of the places for trees that have one
    parked: float
    busy: float  # share of the places for people that are taken

    @classmethod
    def of(cls, stream: np.random.Generator) -> City:
        roll = [float(number) for number in stream.random(10)]
        urban = min(1.0, max(0.0, 1.5 * roll[5] - 0.3))
        return cls(
            pitch_x=58 + 34 * roll[0],
            pitch_z=66 + 40 * roll[1],
            road=4.9 + 0.9 * roll[2],
            pavement=2.8 + 2.2 * roll[3],
            verge=max(0.0, 4 * roll[9] - 2.6) * (1 - urban),
            parking=2.1,
            urban=urban,
            green=0.12 + 0.5 * roll[6] * (1.2 - 0.5 * urban),
            parked=0.1 + 0.75 * roll[7],
            busy=0.12 + 0.65 * roll[8] * (0.5 + 0.5 * urban),
        )

    @property
    def lane(self) -> float:
        """From the middle of a road to the middle of the lane right of it."""
        return (self.road - self.parking) / 2

    def blocks(
        self, stream: np.random.Generator, where: Sequence[tuple[int, int]], near: Callable[..., np.ndarray]
    ) -> np.ndarray:
        """All that stands in these blocks and along their kerbs; small things only at places x, z that are `near`."""
        corners = np.array(where, float).reshape(-1, 2) * (self.pitch_x, self.pitch_z)  # (B, 2) of the streets' middles
        low = corners + self.road
        high = low + np.array([self.pitch_x, self.pitch_z]) - 2 * self.road
        (mid_x, mid_z), (wide, long) = ((low + high) / 2).T, (high - low).T
        slab = box(mid_x, mid_z, 0, KERB, wide, long, PAVEMENT, paints.SLAB, shadow=False, colour=(0.33, 0.32, 0.3))
        # The sides look right, back, left and ahead; each begins where the one before it ends.
        begin_x = np.stack([high[:, 0], low[:, 0], low[:, 0], high[:, 0]], 1).ravel()
        begin_z = np.stack([low[:, 1], low[:, 1], high[:, 1], high[:, 1]], 1).ravel()
        length = np.stack([high[:, 1] - low[:, 1], high[:, 0] - low[:, 0]] * 2, 1).ravel()
        sides = Sides(stream, begin_x, begin_z, np.tile(np.arange(4), len(corners)), length, near)
        things = [*self._houses(sides), self._trees(sides), self._cars(sides), *self._furniture(sides)]
        return together([slab, *things, self._people(sides)])

    def _houses(self, sides: Sides) -> list[np.ndarray]:
        # The corners belong to the sides that look right and left.
        margin = self.pavement + np.where(sides.turn % 2 == 1, DEEP, 0.0)
        room = sides.length - 2 * margin
        count = np.clip((room / (9 + 5 * sides.rolls().roll())).astype(int), 1, LOTS)[:, None]
        rolls = sides.rolls(LOTS)
        number = np.arange(LOTS)
        cuts = (number + rolls.between(-0.2, 0.2) * (number > 0)) / count
        ends = np.concatenate([cuts[:, 1:], np.ones((len(cuts), 1))], 1)
        ends = np.where(number + 1 >= count, 1.0, ends)
        lots = sides.where(number < count)
        begin, end = ((margin[:, None] + share * room[:, None])[lots.there] for share in (cuts, ends))
        rolls = lots.rolls()
        tall = self.urban > rolls.between(0, 1.0)
        storeys = np.where(tall, rolls.between(2.6, 6.5), rolls.between(1.2, 3.2)).astype(int)
        storey = rolls.between(2.8, 3.6)
        high = storeys * storey + rolls.between(0.5, 1.0)
        back = np.where(tall, 0.0, rolls.between(0, 5.5) * (1 - self.urban)) + rolls.between(0, 0.5)
        gap = np.where(tall, rolls.chance(0.12) * 2.0, rolls.between(0.3, 3.0) * rolls.chance(0.7))
        wide, deep = np.maximum(end - begin - gap, 3.0), DEEP - 0.05 - back
        wall = rolls.choose(WALLS) * rolls.between(0.75, 1.1)[:, None]
        shop = rolls.chance(0.55 * self.urban)
        bays = np.maximum((wide / rolls.between(2.0, 3.6)).astype(int), 1)
        pattern = np.stack([wide / bays, storey, rolls.between(0.34, 0.7), rolls.between(0.42, 0.68)], -1)
        x, z = -self.pavement - back - deep / 2, (begin + end) / 2
        house = box(x, z, 0.0, high, deep, wide, BUILDING, paints.FACADE, colour=wall, pattern=pattern)
        house["second"] = np.where(shop[:, None], rolls.choose(SHOPS), rolls.choose(TRIMS))
        house["seed"] = np.floor(rolls.roll() * 500) * 2 + shop
        there = rolls.chance(0.93 - 0.12 * (1 - self.urban))
        gable = there & rolls.chance(np.where(tall, 0.25, 0.85))
        ridge = rolls.between(1.6, 3.6)
        roof = box(x, z, high, high + ridge, deep + 0.7, wide + 0.4, BUILDING, paints.TILES, seed=rolls.roll())
        roof["slope"][:, :2] = (roof["half"][:, :1]) / ridge[:, None]
        roof["colour"] = rolls.choose(TILES)
        flat = there & ~gable & rolls.chance(0.5)
        aside, along = rolls.between(-3, 3), rolls.between(-1, 1)
        attic = box(
            x + aside, z + along, high, high + rolls.between(0.8, 2.6), 2.5, np.minimum(3, wide * 0.6), BUILDING
        )
        attic["colour"] = 0.3
        hedge = rolls.chance(0.5)
        garden = (back > 1.6) | ~there
        fenced = garden & rolls.chance(0.75)
        front, top = -self.pavement - rolls.between(0.05, 0.3), KERB + rolls.between(0.7, 1.5)
        fence = box(
            front, z, KERB, top, np.where(hedge, 0.7, 0.1), np.maximum(end - begin - 1.4, 1), FENCE, paints.FENCE
        )
        fence["label"] = np.where(hedge, VEGETATION, FENCE)
        fence["paint"] = np.where(hedge, paints.LEAVES, paints.FENCE)
        fence["colour"] = np.where(hedge[:, None], rolls.choose(things.LEAVES), rolls.choose(np.vstack([TRIMS, WALLS])))
        fence["pattern"][:, 1], fence["seed"] = 1.0, rolls.roll()
        deep_garden = np.where(there, np.clip(back - 1.6, 0.1, 3.0), 3.0)
        at, share, grown = 0.8 + deep_garden * rolls.roll(), rolls.between(0.15, 0.85), rolls.between(0.8, 1.9)
        bush = ball(
            -self.pavement - at, begin + (end - begin) * share, 0, grown, grown * 0.9, grown, VEGETATION, paints.LEAVES
        )
        bush["colour"], bush["seed"], bush["pattern"][:, 1] = rolls.choose(things.LEAVES), rolls.roll(), 2.0
        pairs = [(there, house), (gable, roof), (flat, attic), (fenced, fence), (garden, bush)]
        pile = np.stack([whole(made) for _, made in pairs], 1).view(SOLID)
        return [chosen(lots.place(pile, 0.0, 0.0, 0), np.stack([some for some, _ in pairs], 1))]

    def _trees(self, sides: Sides) -> np.ndarray:
        rolls = sides.rolls(TREES)
        along = (np.arange(TREES) + rolls.between(0.3, 0.7)) / TREES * (sides.length[:, None] - 6) + 3
        row = sides.rolls(1).chance(0.3 + self.green)
        behind = rolls.chance(0.2)
        trees = sides.where(rolls.chance(self.green) & (row | behind), along)
        rolls = trees.rolls()
        x = np.where(behind[trees.there], -self.pavement - DEEP - rolls.between(1, 8), -0.75)  # over low roofs, in gaps
        return trees.place(things.tree(rolls), x, along[trees.there], 0)

    def _cars(self, sides: Sides) -> np.ndarray:
        rolls = sides.rolls(CARS)
        along = 9.0 + (np.arange(CARS) + rolls.between(0.42, 0.58)) * 6.3
        there = sides.rolls(1).chance(0.85) & rolls.chance(self.parked) & (along < sides.length[:, None] - 10)
        cars = sides.where(there, along)
        rolls = cars.rolls()
        around = np.where(rolls.chance(0.06), 0, 2)  # a few stand against the traffic
        return cars.place(things.car(rolls), rolls.between(0.95, 1.15), along[cars.there], around)

    def _furniture(self, sides: Sides) -> list[np.ndarray]:
        first = sides.rolls(1)
        along = (np.arange(LAMPS) + 0.5 + first.between(-0.2, 0.2)) / LAMPS * sides.length[:, None]
        lamps = sides.where(np.broadcast_to(first.chance(0.8), along.shape), along)
        rolls = sides.rolls(LAMPS)
        beside = rolls.between(0.06, 0.94) * sides.length[:, None]
        signs = sides.where(rolls.chance(0.75), beside)
        # Traffic on this side of the road runs backwards along it, and waits at its beginning.
        lights = sides.where(first.chance(0.6), np.full((len(along), 1), 3.2))
        backwards = np.where(signs.rolls().chance(0.1), 2, 0)
        return [
            lamps.place(things.lamp(lamps.rolls()), -0.45, along[lamps.there], 1),
            signs.place(things.sign(signs.rolls()), -0.35, beside[signs.there], backwards),
            lights.place(things.traffic_light(lights.rolls()), -0.3, 3.2, 0),
        ]

    def _people(self, sides: Sides) -> np.ndarray:
        rolls = sides.rolls(PEOPLE)
        along = rolls.roll() * sides.length[:, None]
        people = sides.where(rolls.chance(self.busy), along)
        rolls = people.rolls()
        ahead = rolls.chance(0.5)
        made = things.person(rolls)
        made["velocity"][..., 1] = (rolls.between(0.9, 1.6) * rolls.chance(0.8))[:, None]
        made["y0"] += KERB
        made["y1"] += KERB
        return people.place(made, -rolls.between(0.5, self.pavement - 0.3), along[people.there], np.where(ahead, 0, 2))


_AHEAD = np.array([(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)])  # where a kerb leads, by turns: x and z
_RIGHT = np.array([(1.0, 0.0), (0.0, -1.0), (-1.0, 0.0), (0.0, 1.0)])


@dataclass(frozen=True)
class Sides:
    """Kerbs, in axes of their own, and what stands along them: of `there` (sides, places) those that are True."""

    stream: np.random.Generator
    begin_x: np.ndarray  # (sides,)
    begin_z: np.ndarray
    turn: np.ndarray
    length: np.ndarray
    near: Callable[..., np.ndarray]
    there: np.ndarray | None = None

    def rolls(self, places: int | None = None) -> Rolls:
        """For each side; or for each of its places; or for each that is there."""
        if self.there is not None:
            return Rolls(self.stream, (int(self.there.sum()),))
        return Rolls(self.stream, (len(self.turn),) if places is None else (len(self.turn), places))

    def where(self, there: np.ndarray, along: np.ndarray | None = None) -> Sides:
        """The places that are taken; of small things, which are `along` the kerb, those that are near."""
        if along is not None:
            axes = _AHEAD[self.turn]
            spots = (self.begin_x[:, None] + axes[:, :1] * along, self.begin_z[:, None] + axes[:, 1:] * along)
            there = there & self.near(*spots)
        return replace(self, there=there)

    def place(self, made: np.ndarray, x: Any, z: Any, turn: Any) -> np.ndarray:
        """Things (places that are there, parts), each at its place and turn along the kerb, in the world's axes."""
        assert self.there is not None
        side = np.nonzero(self.there)[0]
        right, ahead = _RIGHT[self.turn[side]], _AHEAD[self.turn[side]]
        world_x = self.begin_x[side] + right[:, 0] * x + ahead[:, 0] * z
        world_z = self.begin_z[side] + right[:, 1] * x + ahead[:, 1] * z
        return placed(made, world_x[:, None], world_z[:, None], (self.turn[side] + turn)[:, None])
