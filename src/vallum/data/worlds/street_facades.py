"""How houses look: storeys of windows, blinds and doors, shops at the street."""

from __future__ import annotations

import numpy as np

from vallum.data.worlds.street_solids import LEFT, RIGHT
from vallum.data.worlds.street_surfaces import F, Points, between, cover, part, within
from vallum.data.worlds.street_texture import chance, noise


def facade(points: Points) -> np.ndarray:
    scene, row = points.scene, points.row
    side = points.side
    bay, storey, wide, high = scene.pattern.take(row, 1)
    seed = scene.seed.take(row)
    shop = (seed - np.floor(seed * F(0.5)) * 2) > F(0.5)
    length = scene.length.take(points.surface)
    bay = length / np.maximum(np.round(length / bay), 1)
    fine_u, fine_v = points.footprint * points.slant, points.footprint
    along, up = points.along, points.y
    u, v = along / bay, up / storey
    cell, floor = np.floor(u), np.floor(v)
    du, dv = np.abs(u - cell - F(0.5)) * bay, (v - floor - F(0.5)) * storey
    luck = chance(cell + 31, floor + 17, seed)
    coarse = noise(along + seed * 3, up, 3.7)
    grain = noise(along + seed * 7, up * F(1.7), 34) / (1 + fine_u * F(25))
    top = scene.y1.take(row) - up
    wall = 1 + F(0.07) * coarse + F(0.08) * grain
    wall *= 1 - F(0.3) * within(1 - up * F(0.9), 0, 1)
    wall *= 1 + F(0.22) * between(top, 0.05, 0.42, fine_v) - F(0.35) * between(top, 0.42, 0.56, fine_v)
    wall *= 1 + F(0.14) * between(v - floor, 0.0, 0.045, fine_v / storey) * (floor > 0)
    street = (side == RIGHT) | (side == LEFT)  # of the house's own: its front and its back
    fits = (street | (chance(seed, side.astype(F)) > F(0.45))) & (top > storey * F(0.35))  # else without windows
    from_side, from_sill = wide * bay * F(0.5) - du, high * storey * F(0.5) - np.abs(dv + F(0.05))
    frame = np.minimum(cover(from_side + F(0.1), fine_u), cover(from_sill + F(0.1), fine_v)) * fits
    pane = np.minimum(cover(from_side, fine_u), cover(from_sill, fine_v)) * fits
    bars = np.minimum(du, np.abs(dv - F(0.25)))
    pane *= 1 - cover(F(0.03) - bars, fine_u) * ((fine_u < F(0.12)) & (luck > F(0.3)))
    blind = (part(luck * 7) > F(0.62)) & (dv > (part(luck * 3) - F(0.4)) * F(0.25) * storey)
    glass = np.where(blind, F(0.40), F(0.045) + luck * luck * F(0.16))
    glass *= 1 - F(0.4) * cover(F(0.12) - np.minimum(from_side, from_sill), fine_u)  # the reveal's shadow
    # What the sample is made of: wall, what has the second colour, and grey, which has the sky's tint.
    wall *= 1 - frame
    second = frame * ~shop * (1 - pane)
    grey = frame * shop * (1 - pane) * F(0.55) + pane * glass
    low = np.flatnonzero((floor < 1) & street)
    if len(low):
        luck, up, fine_u, fine_v, shop = luck[low], up[low], fine_u[low], fine_v[low], shop[low]
        door = cover(F(0.5) - du[low], fine_u) * cover(F(2.15) - up, fine_v) * (~shop & (luck < F(0.3)))
        front = shop * cover(F(2.5) - up, fine_v)
        board = shop * between(up, 2.55, 3.1, fine_v)
        window = shop * cover(bay[low] * F(0.45) - du[low], fine_u) * between(up, 0.45, 2.4, fine_v)
        lit = F(0.05) + F(0.35) * luck * (chance(cell[low], seed[low] + 5) > F(0.3))
        rest = (1 - door) * (1 - front) * (1 - board)
        wall[low] *= rest
        second[low] = second[low] * rest + board
        grey[low] = grey[low] * rest + door * F(0.08) * (1 + luck * 4) + front * F(0.09) * (1 - window) + window * lit
    tint = np.array([0.97, 1.0, 1.04], F)[:, None]
    return points.colour() * wall + scene.second.take(row, 1) * second + tint * grey
