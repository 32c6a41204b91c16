"""What stands in front of the camera: where the sign is, what is behind it, how it is painted, what hides it.

Tensors are (N, C, S, S) with 1 wherever an image does not vary; y points down in the image, up on the sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vallum.data.worlds.dice import Dice, mix
from vallum.data.worlds.sign_classes import CELLS, COLOURS, REACH, atlas

PAINTS = torch.tensor(list(COLOURS.values()))
SURROUNDINGS = torch.tensor(
    [
        (0.55, 0.72, 0.92),  # sky
        (0.80, 0.84, 0.88),
        (0.92, 0.92, 0.90),
        (0.45, 0.55, 0.66),
        (0.20, 0.36, 0.14),  # leaves
        (0.11, 0.20, 0.09),
        (0.45, 0.50, 0.20),
        (0.55, 0.36, 0.16),
        (0.55, 0.28, 0.21),  # walls
        (0.66, 0.60, 0.50),
        (0.78, 0.72, 0.60),
        (0.50, 0.50, 0.50),
        (0.30, 0.30, 0.32),  # roads
        (0.40, 0.38, 0.36),
    ]
)


@dataclass
class View:
    """Where each pixel lies, in the image and on the plane of the sign, whose plate has radius 1."""

    x: Tensor  # (1, 1, 1, S) in [-1, 1]
    y: Tensor  # (1, 1, S, 1) in [-1, 1], downwards
    u: Tensor  # (N, 1, S, S)
    v: Tensor  # (N, 1, S, S) upwards
    pixel: Tensor  # (N, 1, 1, 1): the width of a pixel on the plane

    def cover(self, distance: Tensor) -> Tensor:
        """How much of each pixel lies within a shape, from its signed distance."""
        return (0.5 - distance / self.pixel).clamp(0, 1)

    def box(self, x: Tensor | float, y: Tensor | float, width: Tensor | float, height: Tensor | float) -> Tensor:
        """Cover of a box by its centre and half sides."""
        return self.cover(torch.maximum((self.u - x).abs() - width, (self.v - y).abs() - height))


def look(dice: Dice, hardness: Tensor, size: int) -> View:
    """A sign of random size, place, turn and slant."""
    line = (torch.arange(size) * 2 + (1 - size)) / size
    x, y = line[None, None, None, :], line[None, None, :, None]
    scale = dice.between(mix(0.74, 0.48, hardness), 0.9)
    room = 0.98 - scale * 0.9  # so much may the centre move before the sign leaves the image
    across, down = (x - dice.between(-1, 1) * room) / scale, (y - dice.between(-1, 1) * room) / scale
    half_turn = dice.between(-1, 1) * mix(0.06, 0.16, hardness)  # tangent of half the angle: cosine and sine without pi
    length = 1 + half_turn * half_turn
    cosine, sine = (1 - half_turn * half_turn) / length, 2 * half_turn / length
    steep = mix(0.12, 0.30, hardness)
    fall_x, fall_y = dice.between(-1, 1) * steep, dice.between(-1, 1) * steep * 0.6
    narrow, low = dice.between(1, mix(1.15, 1.5, hardness)), dice.between(1, mix(1.06, 1.2, hardness))
    depth = 1 + (fall_x * across + fall_y * down).clamp(-0.6, 0.6)
    u = (cosine * across + sine * down) * narrow / depth
    v = (sine * across - cosine * down) * low / depth
    return View(x, y, u, v, (narrow + low) / (size * scale))


def background(dice: Dice, view: View, noise: Tensor) -> Tensor:
    """Sky above ground, texture, perhaps a building, a pole, another sign: (N, 3, S, S)."""
    above, below, third, wall = (_tint(dice, dice.choose(SURROUNDINGS)) for _ in range(4))
    horizon = (view.y - dice.between(-0.7, 0.9) + view.x * dice.between(-0.2, 0.2)) * dice.between(0.5, 8) + 0.5
    scene = mix(above, below, horizon.clamp(0, 1))
    patches = (noise[:, 0:1] - dice.between(0.35, 0.6)) * dice.between(2, 16)
    scene = mix(scene, third, patches.clamp(0, 1) * dice.between(0, 1))

    side = dice.between(-1, 1)
    edge = (view.x * side.sign() - side.abs() + view.y * dice.between(-0.15, 0.15)) * 12
    column, row = view.x * dice.between(1.2, 4) + dice.roll(), view.y * dice.between(1.2, 4) + dice.roll()
    window = torch.minimum((column - column.floor() - 0.5).abs(), (row - row.floor() - 0.5).abs())
    facade = wall * mix(1, dice.between(0.3, 1.3), ((window - 0.2) * 10).clamp(0, 1))
    scene = mix(scene, facade, edge.clamp(0, 1) * dice.chance(0.4))

    scene = scene * mix(1, 0.4 + 1.2 * noise[:, 1:2], dice.between(0.1, 0.9))
    scene = _other_sign(dice, view, scene)
    pole = view.cover(torch.maximum(view.u.abs() - dice.between(0.04, 0.1), view.v + 0.6)) * dice.chance(0.7)
    scene = mix(scene, dice.between(0.3, 0.7) * (1.1 + view.u * 2).clamp(0.8, 1.3), pole)
    plate = view.box(0, -1.4, dice.between(0.5, 0.85), 0.26) * dice.chance(0.15)
    line = view.box(0, -1.4, 0.35, 0.09)
    return mix(scene, mix(0.85, 0.15, line), plate)


def _other_sign(dice: Dice, view: View, scene: Tensor) -> Tensor:
    """A round, square or three-cornered neighbour in the colours of signs, often cut off by the frame."""
    angle_x, angle_y = dice.between(-1, 1), dice.between(-1, 1)
    far = dice.between(1.9, 2.4) / (angle_x * angle_x + angle_y * angle_y + 1e-4).sqrt()
    du, dv = view.u - angle_x * far, view.v - angle_y * far
    kind = dice.roll()
    square = torch.maximum(du.abs(), dv.abs()) - 0.8
    three = torch.maximum(du.abs() * 0.87 + dv * 0.5, -dv) - 0.5
    distance = torch.where(kind < 0.5, (du * du + dv * dv).sqrt() - 0.9, torch.where(kind < 0.75, square, three))
    rim, inner = dice.choose(PAINTS), dice.choose(PAINTS)
    there = dice.chance(0.35)
    scene = mix(scene, rim, view.cover(distance) * there)
    return mix(scene, inner, view.cover(distance + 0.2) * there)


def sign(dice: Dice, view: View, noise: Tensor, labels: Tensor, hardness: Tensor) -> tuple[Tensor, Tensor]:
    """The colours of the sign (N, 3, S, S), and how much of each pixel it covers (N, 1, S, S)."""
    paints = PAINTS.T[None, :, :, None] * dice.between(0.85, 1.1) + dice.between(-0.04, 0.04, 3 * len(PAINTS)).reshape(
        -1, 3, len(PAINTS), 1
    )
    bleached = dice.roll() * mix(0.15, 0.5, hardness)
    paints = mix(paints, 0.7, bleached)  # (N, 3, paints, 1)
    layers, colours = distances(view, labels)
    chosen = colours[labels]  # (N, layers)
    covers = view.cover(layers)  # (N, layers, S, S)
    picture: Tensor = torch.zeros(())
    for layer in range(layers.shape[1]):
        colour = paints[torch.arange(len(labels)), :, chosen[:, layer]][..., None]  # (N, 3, 1, 1)
        picture = mix(picture, colour, covers[:, layer : layer + 1]) if layer else colour
    shading = 1 + view.u * dice.between(-0.15, 0.15) + view.v * dice.between(-0.1, 0.2)
    dirt = (noise[:, 2:3] - dice.between(mix(0.7, 0.5, hardness), 0.8)) * 8
    soil = dice.between(0.15, 0.5) * (1 + dice.between(-0.15, 0.15, 3))
    return mix(picture * shading, soil, dirt.clamp(0, 1) * dice.between(0.2, 0.9)), covers[:, 0:1]


def distances(view: View, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distance to each layer of each image's sign, (N, layers, S, S), read off the atlas between its samples."""
    table, colours = atlas()
    across = ((view.u + REACH) * (CELLS / (2 * REACH))).clamp(0, CELLS - 0.001)
    down = ((REACH - view.v) * (CELLS / (2 * REACH))).clamp(0, CELLS - 0.001)
    left, top = across.floor(), down.floor()
    right, lower = (across - left).permute(0, 2, 3, 1), (down - top).permute(0, 2, 3, 1)  # (N, S, S, 1)
    wide = CELLS + 1
    start = (labels[:, None, None, None] * (wide * wide) + top.long() * wide + left.long()).flatten()
    corner = [table.index_select(0, start + step).view(*right.shape[:3], -1) for step in (0, 1, wide, wide + 1)]
    found = mix(mix(corner[0], corner[1], right), mix(corner[2], corner[3], right), lower)
    return found.permute(0, 3, 1, 2), colours


def hide(dice: Dice, view: View, noise: Tensor, picture: Tensor, hardness: Tensor) -> Tensor:
    """A bar, leaves or a corner of something in front of the sign, on some of the harder images."""
    slope = dice.between(-1, 1)
    upright = dice.chance(0.5)
    along = mix(view.x + slope * view.y, view.y + slope * view.x, upright)
    colour = _tint(dice, dice.choose(SURROUNDINGS[4:])) * 0.7
    bar = dice.between(0.03, 0.14) - (along - dice.between(-0.6, 0.6)).abs()
    corner = (view.x * dice.between(-1, 1).sign() + view.y * dice.between(-1, 1).sign()) - dice.between(0.45, 1.3)
    leaves = torch.minimum((noise[:, 1:2] - dice.between(0.5, 0.62)) * 0.8, along.abs() - dice.between(0.0, 0.5))
    kind = dice.roll()
    there = dice.chance(mix(0.05, 0.5, hardness))
    inside = torch.where(kind < 0.35, bar, torch.where(kind < 0.6, corner, leaves))
    cover = (inside * (0.4 * picture.shape[-1]) + 0.5).clamp(0, 1) * there
    return mix(picture, colour * (0.6 + 0.8 * noise[:, 0:1]), cover)


def _tint(dice: Dice, colour: Tensor) -> Tensor:
    return colour * dice.between(0.7, 1.2) + dice.between(-0.06, 0.06, 3)
