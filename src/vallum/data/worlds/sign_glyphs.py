"""What is painted on signs: digits, letters, arrows, people and things. Each fills about [-1, 1] in both directions."""

from __future__ import annotations

from vallum.data.worlds.shapes import (
    Point,
    Shape,
    arc,
    arrowhead,
    box,
    disc,
    placed,
    polygon,
    stroke,
    union,
    without,
)

# Centre lines in a box of width 1 and height 1, each character one or more lines.
CHARACTERS: dict[str, list[list[Point]]] = {
    "0": [arc(0.5, 0.65, 0.5, 0.35, 0, 180) + arc(0.5, 0.35, 0.5, 0.35, 180, 360) + [(1, 0.65)]],
    "1": [[(0.15, 0.72), (0.6, 1), (0.6, 0)]],
    "2": [[*arc(0.5, 0.7, 0.48, 0.3, 170, -35), (0, 0), (1, 0)]],
    "3": [arc(0.45, 0.76, 0.45, 0.24, 155, -90) + arc(0.45, 0.26, 0.52, 0.26, 90, -155)],
    "5": [[(0.92, 1), (0.14, 1), (0.08, 0.52), *arc(0.47, 0.31, 0.5, 0.31, 135, -150)]],
    "6": [arc(0.5, 0.3, 0.5, 0.3, 0, 360), arc(0.85, 0.3, 0.85, 0.7, 180, 100)],
    "7": [[(0, 1), (1, 1), (0.35, 0)]],
    "8": [arc(0.5, 0.76, 0.42, 0.24, 0, 360), arc(0.5, 0.26, 0.5, 0.26, 0, 360)],
    "S": [arc(0.5, 0.75, 0.48, 0.25, 25, 270) + arc(0.5, 0.25, 0.48, 0.25, 90, -155)],
    "T": [[(0, 1), (1, 1)], [(0.5, 1), (0.5, 0)]],
    "O": [arc(0.5, 0.5, 0.5, 0.5, 0, 360)],
    "P": [[(0.05, 0), (0.05, 1), (0.5, 1), *arc(0.5, 0.73, 0.45, 0.27, 90, -90), (0.05, 0.46)]],
}


def text(words: str, width: float, height: float, gap: float, thickness: float) -> Shape:
    """`words` centred at the origin; `width` is that of one character, before the thickness of its lines."""
    left = -(len(words) * width + (len(words) - 1) * gap) / 2
    lines = [
        [(left + place * (width + gap) + x * width, (y - 0.5) * height) for x, y in points]
        for place, letter in enumerate(words)
        for points in CHARACTERS[letter]
    ]
    return union(*(stroke(points, thickness) for points in lines))


def number(digits: str) -> Shape:
    wide = len(digits) < 3
    return text(digits, 0.36 if wide else 0.24, 0.72, 0.22 if wide else 0.19, 0.16 if wide else 0.14)


def exclamation() -> Shape:
    return union(polygon([(-0.16, 1), (0.16, 1), (0.08, -0.35), (-0.08, -0.35)], 0.06), disc(0, -0.8, 0.2))


def curve_right() -> Shape:
    bend = [(-0.35, -1.0), (-0.35, -0.3), *arc(0.25, -0.3, 0.6, 0.6, 180, 90)]
    return union(stroke(bend, 0.3), arrowhead(0.25, 0.3, 0, 0.55))


def double_curve() -> Shape:
    bends = [(0.3, -1.0), *arc(-0.15, -0.65, 0.45, 0.4, 0, 80), *arc(-0.1, 0.2, 0.4, 0.4, 260, 110), (0.1, 0.7)]
    return union(stroke(bends, 0.28), arrowhead(0.1, 0.62, 50, 0.45))


def bumps() -> Shape:
    humps = union(*(without(disc(x, -0.55, 0.55), box(-2, -2, 2, -0.5)) for x in (-0.55, 0.55)))
    return union(humps, box(-1.15, -0.75, 1.15, -0.48))


def car_behind() -> Shape:
    body = polygon([(-0.8, -0.35), (0.8, -0.35), (0.8, 0.1), (0.5, 0.2), (-0.5, 0.2), (-0.8, 0.1)], 0.08)
    cabin = without(polygon([(-0.5, 0.15), (0.5, 0.15), (0.35, 0.6), (-0.35, 0.6)], 0.1), box(-0.32, 0.26, 0.32, 0.5))
    return union(body, cabin, box(-0.78, -0.7, -0.42, -0.3), box(0.42, -0.7, 0.78, -0.3))


def lorry_behind() -> Shape:
    return union(box(-0.75, -0.4, 0.75, 0.95), box(-0.7, -0.75, -0.35, -0.3), box(0.35, -0.75, 0.7, -0.3))


def lorry_side() -> Shape:
    cab = without(polygon([(-1, -0.4), (-0.45, -0.4), (-0.45, 0.3), (-0.8, 0.3), (-1, 0)]), box(-0.8, 0.0, -0.58, 0.18))
    return union(box(-0.4, -0.4, 1.05, 0.6), cab, disc(-0.65, -0.45, 0.24), disc(0.6, -0.45, 0.24))


def slippery() -> Shape:
    tracks = [stroke([(x, -0.95), (x - 0.2, -0.7), (x + 0.15, -0.4), (x - 0.1, -0.12)], 0.15) for x in (-0.35, 0.42)]
    return union(placed(car_behind(), 0.05, 0.5, 0.72), *tracks)


def narrows_right() -> Shape:
    left = stroke([(-0.4, -1), (-0.4, 0.95)], 0.24)
    return union(left, stroke([(0.6, -1), (0.6, -0.35), (0.15, 0.25), (0.15, 0.95)], 0.24))


def person(x: float, lean: float, scale: float) -> Shape:
    """A walker seen from the side; `lean` opens the stride."""
    hip, neck = (0.0, -0.1), (0.1 * lean, 0.5)
    limbs = [
        [neck, hip],
        [hip, (0.25 * lean, -0.5), (0.22 * lean, -1)],
        [hip, (-0.12 * lean, -0.5), (-0.45 * lean, -0.95)],
        [neck, (0.42 * lean, 0.15), (0.6 * lean, 0.25)],
        [neck, (-0.28 * lean, 0.2), (-0.42 * lean, -0.1)],
    ]
    figure = union(disc(0.14 * lean, 0.85, 0.2), *(stroke(limb, 0.2) for limb in limbs), stroke(limbs[0], 0.32))
    return placed(figure, x, 0, scale)


def pedestrian() -> Shape:
    crossing = [box(x - 0.15, -1, x + 0.15, -0.82) for x in (-0.9, -0.3, 0.3, 0.9)]
    return union(placed(person(0, 1, 0.9), 0, 0.15, 1), *crossing)


def children() -> Shape:
    return union(placed(person(0, 1.3, 0.78), -0.5, -0.05, 1), placed(person(0, 1.3, 0.62), 0.55, -0.25, 1))


def road_works() -> Shape:
    worker = union(
        disc(-0.2, 0.72, 0.2),
        stroke([(-0.25, 0.35), (-0.5, -0.15)], 0.34),
        stroke([(-0.5, -0.2), (-0.2, -0.55), (-0.35, -1)], 0.22),
        stroke([(-0.5, -0.2), (-0.7, -0.6), (-0.9, -1)], 0.22),
        stroke([(-0.2, 0.35), (0.2, 0.05)], 0.17),
        stroke([(-0.3, 0.3), (0.5, -0.55)], 0.11),
    )
    return union(worker, polygon([(0.15, -1.05), (1.1, -1.05), (0.65, -0.35)], 0.03))


def bicycle() -> Shape:
    wheels = [stroke(arc(x, -0.4, 0.42, 0.42, 0, 360), 0.15) for x in (-0.62, 0.62)]
    frame = [
        [(-0.62, -0.4), (-0.3, 0.2), (0.4, 0.2), (-0.05, -0.4), (-0.62, -0.4)],
        [(-0.05, -0.4), (-0.38, 0.42)],
        [(0.62, -0.4), (0.35, 0.5), (0.6, 0.6)],
        [(-0.55, 0.45), (-0.2, 0.45)],
    ]
    return union(*wheels, *(stroke(points, 0.13) for points in frame))


def snowflake() -> Shape:
    parts: list[Shape] = []
    for angle in range(30, 390, 60):
        tip, fork = arc(0, 0, 1, 1, angle, angle, 1)[0], arc(0, 0, 0.55, 0.55, angle, angle, 1)[0]
        left, right = arc(0, 0, 0.92, 0.92, angle - 18, angle + 18, 1)
        parts += [stroke([(0, 0), tip], 0.16), stroke([left, fork, right], 0.12)]
    return union(*parts)


def deer() -> Shape:
    body = polygon([(-0.75, 0.1), (0.3, -0.12), (0.4, 0.2), (-0.3, 0.42), (-0.6, 0.45)], 0.1)
    lines = [
        ([(-0.55, 0.35), (-0.78, 0.72), (-1.02, 0.6)], 0.22),
        ([(-0.75, 0.75), (-0.62, 1.1)], 0.1),
        ([(-0.78, 0.75), (-0.95, 1.08)], 0.1),
        ([(-0.6, 0.1), (-0.95, -0.2), (-0.75, -0.5)], 0.14),
        ([(-0.45, 0.0), (-0.7, -0.45), (-0.6, -0.85)], 0.14),
        ([(0.3, 0.0), (0.45, -0.4), (0.85, -0.75)], 0.15),
        ([(0.2, -0.1), (0.2, -0.5), (0.55, -0.95)], 0.15),
        ([(0.45, 0.2), (0.58, 0.38)], 0.13),
    ]
    return union(body, *(stroke(points, width) for points, width in lines))


def crossing_ahead() -> Shape:
    stem = union(box(-0.17, -1, 0.17, 0.4), arrowhead(0, 0.35, 90, 0.5))
    return union(stem, box(-0.75, -0.38, 0.75, -0.12))


def ahead() -> Shape:
    return union(box(-0.16, -0.95, 0.16, 0.25), arrowhead(0, 0.2, 90, 0.68))


def turn_right() -> Shape:
    bend = [(-0.45, -0.85), (-0.45, -0.05), *arc(-0.2, -0.05, 0.25, 0.25, 180, 90), (0.3, 0.2)]
    return union(stroke(bend, 0.34), arrowhead(0.3, 0.2, 0, 0.62))


def ahead_or_right() -> Shape:
    branch = [(-0.3, -0.65), (-0.3, -0.45), *arc(-0.1, -0.45, 0.2, 0.2, 180, 90), (0.3, -0.25)]
    up = union(stroke([(-0.3, -0.85), (-0.3, 0.4)], 0.26), arrowhead(-0.3, 0.4, 90, 0.46))
    return union(up, stroke(branch, 0.26), arrowhead(0.3, -0.25, 0, 0.46))


def keep_right() -> Shape:
    return union(stroke([(-0.6, 0.6), (0.2, -0.2)], 0.36), arrowhead(0.15, -0.15, -45, 0.66))


def roundabout() -> Shape:
    parts: list[Shape] = []
    for start in (75, 195, 315):  # anticlockwise, as where traffic keeps right
        line = arc(0, 0, 0.72, 0.72, start, start + 72)
        parts += [stroke(line, 0.25), arrowhead(*line[-1], start + 72 + 82, 0.42)]
    return union(*parts)


def stripes(gap: float, count: int, width: float) -> Shape:
    """Diagonal bars from lower left to upper right, `gap` apart."""
    shifts = [gap * (place - (count - 1) / 2) for place in range(count)]
    return union(*(polygon(_bar(shift, width)) for shift in shifts))


def _bar(shift: float, width: float) -> list[Point]:
    x, y, half = shift * 0.6, -shift * 0.8, width / 2
    ends = [(x + along * 0.8, y + along * 0.6) for along in (-1.3, 1.3)]
    (ax, ay), (bx, by) = ends
    ox, oy = half * 0.6, -half * 0.8
    return [(ax - ox, ay - oy), (bx - ox, by - oy), (bx + ox, by + oy), (ax + ox, ay + oy)]
