"""What a street is built of: frustums and ellipsoids in a table, a row each. x is right, y up, z ahead, in metres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vallum.data.worlds import street_paints as paints

CLASSES = (*("road", "pavement", "building", "fence", "pole", "sign", "vegetation", "terrain", "sky", "person", "car"),)
ROAD, PAVEMENT, BUILDING, FENCE, POLE, SIGN, VEGETATION, TERRAIN, SKY, PERSON, CAR = range(len(CLASSES))

LEFT, RIGHT, BACK, FRONT, TOP, BOTTOM = range(6)  # faces of a frustum, seen along its own z
# By turns: the face of a solid, in its own axes, that looks left, right, back, ahead, up and down in the world's.
FACES_BY_TURN = np.array([[0, 1, 2, 3, 4, 5], [2, 3, 1, 0, 4, 5], [1, 0, 3, 2, 4, 5], [3, 2, 0, 1, 4, 5]])
_WALLS_BY_TURN = FACES_BY_TURN[:, :4]
_COSINE, _SINE = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
SOLID = np.dtype(
    [
        ("round", "?"),  # an ellipsoid; else a frustum
        *((name, "f8") for name in ("x", "z", "y0", "y1")),  # the middle of its base, where it begins and ends
        ("half", "f8", 2),  # half of its width and length, at the base; or the radii
        ("slope", "f8", 4),  # by how much its left, right, back and front lean in, for each metre up
        ("velocity", "f8", 2),  # along x and z, metres a second
        ("turn", "i8"),  # quarter turns from its own axes to the world's
        ("label", "i8"),
        ("paint", "i8"),
        ("colour", "f8", 3),
        ("second", "f8", 3),
        ("pattern", "f8", 4),  # what its paint makes of them
        ("seed", "f8"),
        ("shadow", "?"),
    ],
    align=True,  # which is read faster
)
_WHOLE = np.dtype((np.void, SOLID.itemsize))


def solids(shape: int | tuple[int, ...], **fields: Any) -> np.ndarray:
    """Rows of the table, with these fields set; the others are zero."""
    made = np.zeros(shape, SOLID)
    for name, value in fields.items():
        made[name] = value
    return made


def box(
    x: Any, z: Any, y0: Any, y1: Any, width: Any, length: Any, label: int, paint: int = paints.PLAIN, **fields: Any
) -> np.ndarray:
    """Boxes and frustums; numbers may be arrays of any one shape."""
    made = np.zeros(np.broadcast(x, z, y0, y1, width, length).shape, SOLID)
    made["x"], made["z"], made["y0"], made["y1"] = x, z, y0, y1
    made["half"][..., 0], made["half"][..., 1] = width, length
    made["half"] *= 0.5
    made["label"], made["paint"], made["shadow"] = label, paint, True
    for name, value in fields.items():
        made[name] = value
    return made


def ball(
    x: Any, z: Any, y0: Any, y1: Any, width: Any, length: Any, label: int, paint: int = paints.PLAIN, **fields: Any
) -> np.ndarray:
    """Ellipsoids that fill such a box."""
    return box(x, z, y0, y1, width, length, label, paint, round=True, **fields)


def placed(made: np.ndarray, x: Any, z: Any, turn: Any) -> np.ndarray:
    """Solids in axes of their own, turned by quarters about the y axis and moved: a copy.

    >>> row = box(x=1.0, z=5.0, y0=0, y1=1, width=2, length=4, label=CAR)
    >>> at = placed(row, x=10.0, z=20.0, turn=1)
    >>> float(at["x"]), float(at["z"]), at["half"].tolist()
    (15.0, 19.0, [2.0, 1.0])
    """
    made = whole(made).copy().view(SOLID)
    turn = np.broadcast_to(turn, made.shape) % 4
    cosine, sine = _COSINE[turn], _SINE[turn]
    for right, ahead in ((made["x"], made["z"]), (made["velocity"][..., 0], made["velocity"][..., 1])):
        moved = cosine * right + sine * ahead
        ahead[...] = cosine * ahead - sine * right
        right[...] = moved
    made["x"] += x
    made["z"] += z
    odd = (turn & 1 == 1)[..., None]
    made["half"] = np.where(odd, made["half"][..., ::-1], made["half"])
    made["slope"] = np.take_along_axis(made["slope"], _WALLS_BY_TURN[turn], -1)
    made["turn"] = (made["turn"] + turn) % 4
    return made


def chosen(table: np.ndarray, which: np.ndarray) -> np.ndarray:
    """These rows, by numbers or by a mask: a copy."""
    return whole(table)[which].view(SOLID)


def together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One table of several: a copy."""
    return np.concatenate([whole(part).ravel() for part in parts]).view(SOLID)


def either(first: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rows of one table where `first` holds, else of the other."""
    return np.where(first, whole(one), whole(other)).view(SOLID)


def whole(table: np.ndarray) -> np.ndarray:
    """The table's rows as one piece each: as such they are copied ten times as fast as field by field."""
    return table.view(_WHOLE)
