"""Lengths on paper, in millimetres, and the sheets that printers take."""

from __future__ import annotations

import math
import re

from vallum.errors import UserError, did_you_mean

POINT = 25.4 / 72  # a PDF counts in points
_UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "in": 25.4, "": 1.0}
_PAPERS = {
    **{f"a{n}": (float(w), float(h)) for n, (w, h) in enumerate(
        [(841, 1189), (594, 841), (420, 594), (297, 420), (210, 297), (148, 210), (105, 148)]
    )},
    "letter": (215.9, 279.4),
    "legal": (215.9, 355.6),
    "tabloid": (279.4, 431.8),
}  # fmt: skip


def millimetres(text: str | float) -> float:
    """A length with its unit.

    >>> millimetres("60cm"), millimetres("2in"), millimetres("45")
    (600.0, 50.8, 45.0)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", str(text).lower())
    if not found or found[2] not in _UNITS or not 0 < float(found[1]) < math.inf:
        raise UserError(f"{text!r} is no length", "a number with mm, cm, m or in", "write 600mm")
    return float(found[1]) * _UNITS[found[2]]


def paper(text: str) -> tuple[float, float]:
    """Width and height of a sheet, upright: a name, or 100mmx150mm.

    >>> paper("A4"), paper("10cmx15cm")
    ((210.0, 297.0), (100.0, 150.0))
    """
    name = text.strip().lower()
    if name in _PAPERS:
        return _PAPERS[name]
    sides = name.split("x")
    if len(sides) != 2 or not any(letter.isdigit() for letter in name):
        raise UserError(f"{text!r} is no paper", did_you_mean(name, _PAPERS), "or give its sides, as 300mmx400mm")
    return millimetres(sides[0]), millimetres(sides[1])


def said(length: float) -> str:
    """For people: 692.3 mm.

    >>> said(692.3077), said(600.0)
    ('692.3 mm', '600 mm')
    """
    return f"{length:.1f}".removesuffix(".0") + " mm"
