"""What stands and moves in a street, each in axes of its own: z is where it faces, x its right, y up.

Every function takes rolls of one shape and returns solids of that shape with one more axis, the parts of a thing.
"""

from __future__ import annotations

import numpy as np

from vallum.data.worlds import street_paints as paints
from vallum.data.worlds.street_rolls import Rolls
from vallum.data.worlds.street_solids import CAR, PERSON, POLE, SIGN, VEGETATION, ball, box, either, solids, whole

CAR_COLOURS = np.array(
    [
        (0.75, 0.76, 0.77),  # white and silver and black, as most are
        (0.42, 0.43, 0.45),
        (0.02, 0.02, 0.025),
        (0.10, 0.11, 0.12),
        (0.40, 0.015, 0.015),
        (0.01, 0.05, 0.28),
        (0.02, 0.13, 0.22),
        (0.05, 0.14, 0.05),
        (0.48, 0.36, 0.18),
        (0.55, 0.40, 0.01),
    ]
)
CLOTHES = np.array(
    [
        (0.02, 0.02, 0.03),
        (0.05, 0.07, 0.18),
        (0.45, 0.04, 0.04),
        (0.55, 0.55, 0.52),
        (0.12, 0.18, 0.08),
        (0.50, 0.32, 0.05),
        (0.20, 0.14, 0.10),
        (0.06, 0.22, 0.35),
        (0.35, 0.10, 0.28),
    ]
)
LEAVES = np.array(
    [(0.055, 0.115, 0.02), (0.09, 0.15, 0.03), (0.04, 0.085, 0.03), (0.17, 0.15, 0.03), (0.22, 0.11, 0.02)]
)
BARK = np.array([(0.09, 0.065, 0.045), (0.14, 0.12, 0.10)])
SKIN = np.array([(0.50, 0.31, 0.22), (0.30, 0.17, 0.10), (0.13, 0.07, 0.045)])
STEEL = np.array([(0.20, 0.21, 0.22), (0.08, 0.10, 0.09), (0.32, 0.33, 0.34)])
# rim, middle; pattern is (shape, bar): a round prohibition, a warning, a command, a sign of directions, no entry
PLATES = np.array([(0.55, 0.02, 0.03), (0.55, 0.02, 0.03), (0.015, 0.08, 0.38), (0.02, 0.10, 0.36), (0.55, 0.02, 0.03)])
FACES = np.array([(0.8, 0.8, 0.8), (0.8, 0.8, 0.78), (0.015, 0.08, 0.38), (0.02, 0.10, 0.36), (0.55, 0.02, 0.03)])


def car(rolls: Rolls) -> np.ndarray:
    """Underbody, body and cabin; one in six is a van."""
    shape = rolls.shape
    van = rolls.chance(0.16)
    length = rolls.between(3.7, 4.7) + van * 0.7
    width = rolls.between(1.66, 1.86) + van * 0.12
    waist = rolls.between(0.82, 0.95) + van * 0.12
    roof = rolls.between(1.38, 1.62) + van * rolls.between(0.45, 0.8)
    colour = rolls.choose(CAR_COLOURS) * rolls.between(0.8, 1.15)[..., None]
    seed = rolls.roll()
    hood = np.where(van, rolls.between(0.55, 0.8), rolls.between(0.95, 1.25))  # from the nose to the windscreen
    trunk = np.where(van, 0.06, rolls.between(0.08, 0.7))
    high = roof - waist
    wheels = length * 0.31
    parts = solids((*shape, 3), label=CAR, colour=colour[..., None, :], seed=seed[..., None])
    parts[..., 0] = box(0, 0, 0.0, 0.3, width * 0.84, length * 0.93, CAR, colour=0.012, shadow=False)
    body = solids(shape, y0=0.19, y1=waist, label=CAR, paint=paints.CAR_BODY, colour=colour, seed=seed, shadow=True)
    body["half"] = np.stack([width / 2, length / 2], -1)
    body["slope"] = np.stack([0.06 + 0 * van, 0.06 + 0 * van, 0.12 + 0 * van, np.where(van, 0.1, 0.3)], -1)
    body["pattern"] = np.stack([wheels, width / 2, length / 2, waist], -1)
    parts[..., 1] = body
    cabin = solids(shape, y0=waist, y1=roof, label=CAR, paint=paints.CAR_CABIN, colour=colour, seed=seed, shadow=True)
    inner = length / 2 - 0.12 * (waist - 0.19), length / 2 - np.where(van, 0.1, 0.3) * (waist - 0.19)
    back, front = -inner[0] + trunk, inner[1] - hood
    cabin["z"] = (front + back) / 2
    cabin["half"] = np.stack([width / 2 - 0.06, (front - back) / 2], -1)
    lean = 0.22 + 0 * high
    rake = np.where(van, 0.25, 0.6) / high * np.minimum(high, 0.6)
    cabin["slope"] = np.stack([lean, lean, np.where(van, 0.08, rake * 0.7 + 0.1), rake + 0.35], -1)
    cabin["pattern"] = np.stack([high, width / 2, (front - back) / 2, waist], -1)
    parts[..., 2] = cabin
    return parts


def person(rolls: Rolls) -> np.ndarray:
    """Two legs in the middle of a step, a trunk with arms, a head."""
    tall = rolls.between(1.5, 1.9)
    broad = rolls.between(0.85, 1.2)
    top, legs = rolls.choose(CLOTHES), rolls.choose(CLOTHES) * 0.7
    stride = rolls.between(-0.22, 0.22)
    lean = stride / (tall * 0.48)  # so that both legs meet at the hip
    parts = solids((*rolls.shape, 5), label=PERSON, paint=paints.PLAIN, shadow=True)
    for part, side in ((0, -1), (1, 1)):
        leg = box(side * 0.085 * broad, side * stride, 0.0, tall * 0.48, 0.15 * broad, 0.17, PERSON, colour=legs)
        leg["slope"][..., 3], leg["slope"][..., 2] = side * lean, -side * lean
        parts[..., part] = leg
    trunk = box(0, 0, tall * 0.46, tall * 0.84, 0.36 * broad, 0.24, PERSON, colour=top)
    trunk["slope"] = (-0.12, -0.12, 0.0, 0.0)
    parts[..., 2] = trunk
    arms = box(0, 0, tall * 0.44, tall * 0.82, 0.54 * broad, 0.12, PERSON, colour=top * 0.8)
    arms["slope"] = (0.1, 0.1, 0.0, 0.0)
    parts[..., 3] = arms
    parts["shadow"] = np.arange(5) < 3
    parts[..., 4] = ball(0, 0, tall * 0.85, tall, 0.17, 0.2, PERSON, colour=rolls.choose(SKIN))
    return parts


def tree(rolls: Rolls) -> np.ndarray:
    """A trunk below a crown of five balls, or below the cones of a fir."""
    tall = rolls.between(4.5, 9.5)
    wide = tall * rolls.between(0.4, 0.6)
    clear = tall * rolls.between(0.22, 0.36)  # under the crown
    leaves = rolls.choose(LEAVES) * rolls.between(0.8, 1.3)[..., None]
    seed, fir = rolls.roll(), rolls.chance(0.15)
    parts = solids((*rolls.shape, 6), label=VEGETATION, paint=paints.LEAVES, shadow=True)
    thick = tall * 0.045
    parts[..., 0] = box(0, 0, 0.0, tall * 0.6, thick, thick, VEGETATION, colour=rolls.choose(BARK), pattern=0.0)
    for part in range(1, 6):
        size = wide * (rolls.between(0.55, 0.75) if part > 1 else rolls.between(0.8, 1.0))
        high = (tall - clear) * (rolls.between(0.45, 0.7) if part > 1 else rolls.between(0.8, 1.0))
        low = clear + (tall - clear - high) * rolls.between(0, 1)
        off = wide * 0.3 * (part > 1)
        x, z = rolls.between(-1, 1) * off, rolls.between(-1, 1) * off
        tone = leaves * rolls.between(0.8, 1.2)[..., None]
        crown = ball(x, z, low, low + high, size, size, VEGETATION, paints.LEAVES, colour=tone, seed=seed)
        step = (tall - clear) / 5
        cone = box(0, 0, clear + step * (part - 1), clear + step * (part + 0.6), 1, 1, VEGETATION, paints.LEAVES)
        reach = wide * 0.45 * (1.15 - part / 5.5)
        cone["half"], cone["colour"], cone["seed"] = reach[..., None], leaves * 0.6, seed
        cone["slope"] = (reach / (1.62 * step))[..., None]
        whole(parts)[..., part] = whole(either(fir, cone, crown))
    parts["shadow"] = np.arange(6) < 4
    parts["pattern"][..., 0], parts["pattern"][..., 1] = clear[..., None], tall[..., None]
    return parts


def lamp(rolls: Rolls) -> np.ndarray:
    """A mast with an arm forward over the road."""
    high, reach = rolls.between(5.5, 8.5), rolls.between(0.8, 1.8)
    colour = rolls.choose(STEEL)
    parts = solids((*rolls.shape, 3))
    parts[..., 0] = box(0, 0, 0.0, high, 0.15, 0.15, POLE, colour=colour)
    parts[..., 0]["slope"] = (0.05 / 8,) * 4
    parts[..., 1] = box(0, reach / 2, high - 0.1, high, 0.09, reach, POLE, colour=colour)
    parts[..., 2] = box(0, reach, high - 0.2, high - 0.02, 0.28, 0.7, POLE, colour=colour * 1.4)
    parts["shadow"] = np.arange(3) < 1
    return parts


def sign(rolls: Rolls) -> np.ndarray:
    """A post with a plate: round, three-cornered or a rectangle."""
    kind = (rolls.roll() * len(PLATES)).astype(int)
    size, high = rolls.between(0.62, 0.85), rolls.between(1.9, 2.5)
    rim, face = PLATES[kind], FACES[kind]
    parts = solids((*rolls.shape, 2))
    parts[..., 0] = box(0, 0, 0.0, high + size * 0.8, 0.07, 0.07, POLE, colour=0.25)
    pattern = np.stack([kind, size, high, 0 * size], -1)
    common = {"colour": rim, "second": face, "pattern": pattern, "label": SIGN, "paint": paints.SIGN}
    disc = ball(0, 0.06, high, high + size, size, 0.05, **common)
    corner = box(0, 0.06, high, high + size * 0.9, size * 1.1, 0.03, **common)
    corner["slope"][..., :2] = 0.55 / 0.9
    plate = box(0, 0.06, high, high + size * 0.75, size * 1.25, 0.03, **common)
    parts[..., 1] = either(kind == 1, corner, either(kind == 3, plate, disc))
    return parts


def traffic_light(rolls: Rolls) -> np.ndarray:
    """A post with a box of three lamps that looks back along the street; `pattern` says which of them is lit."""
    high = rolls.between(2.3, 2.9)
    lit = (rolls.roll() * 3).astype(int).astype(float)
    parts = solids((*rolls.shape, 2))
    parts[..., 0] = box(0, 0, 0.0, high + 0.9, 0.13, 0.13, POLE, colour=0.06)
    pattern = np.stack([lit, high, 0 * high, 0 * high], -1)
    parts[..., 1] = box(
        0, 0.1, high, high + 0.95, 0.36, 0.22, SIGN, paints.LAMPS, colour=0.02, second=0.02, pattern=pattern
    )
    return parts
