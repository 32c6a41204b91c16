"""From the scene to the photograph: light, fog, blur, noise, eight bits."""

from __future__ import annotations

import torch
from torch import Tensor

from vallum.data.worlds.dice import Dice, mix
from vallum.data.worlds.sign_scene import View


def light(dice: Dice, view: View, picture: Tensor, hardness: Tensor) -> Tensor:
    """A shadow's edge, glare, brightness, the colour of the light, fog, contrast."""
    slope, place = dice.between(-1.5, 1.5), dice.between(-0.9, 0.9)
    edge = ((view.x + slope * view.y - place) * dice.between(3, 20) + 0.5).clamp(0, 1)
    depth = dice.between(0.1, mix(0.4, 0.75, hardness)) * dice.chance(0.35)
    picture = picture * (1 - depth * edge)
    dx, dy = view.x - dice.between(-0.8, 0.8), view.y - dice.between(-0.8, 0.8)
    glare = (1 - (dx * dx + dy * dy) * dice.between(1, 4)).clamp(0, 1)
    picture = picture + glare * dice.between(0.1, 0.6) * dice.chance(mix(0.05, 0.4, hardness))
    picture = picture * dice.between(mix(0.6, 0.22, hardness), 1.15) * (1 + dice.between(-0.1, 0.1, 3))
    fog = dice.between(0, mix(0.15, 0.6, hardness)) * dice.chance(0.4)
    picture = mix(picture, dice.between(0.5, 0.9), fog).clamp(0, 1)
    bend = dice.between(-0.35, 0.5)  # a curve through 0 and 1, brighter in between where positive
    return picture * (1 + bend) / (1 + bend * picture)


def blur(dice: Dice, picture: Tensor, hardness: Tensor) -> Tensor:
    """Out of focus, and moving to the side or up and down."""
    size = picture.shape[-1]
    focus = dice.between(0, mix(0.6, 1.2, hardness))
    motion = dice.between(0, mix(0.4, 1.7, hardness)) * dice.chance(0.4)
    sideways = dice.chance(0.6)
    for axis, moving in ((3, sideways), (2, 1 - sideways)):
        reach = (1 + focus + motion * moving) * (size / 32)  # in pixels, where the weight reaches zero
        picture = _spread(picture, reach, axis)
    return picture


def _spread(picture: Tensor, reach: Tensor, axis: int) -> Tensor:
    """A weighted mean along `axis`, its weights 1 - (step / reach)^2; beyond the edge the image goes on as it ends."""
    size = picture.shape[axis]
    furthest = 3.9 * size / 32
    total, weight, step = picture, torch.ones(()), 1
    while step < furthest:
        amount = (1 - (step / reach) * (step / reach)).clamp_min(0)
        first, last = picture.narrow(axis, 0, 1), picture.narrow(axis, size - 1, 1)
        inner = size - step
        shape = list(picture.shape)
        shape[axis] = step
        ahead = torch.cat([picture.narrow(axis, step, inner), last.expand(shape)], axis)
        behind = torch.cat([first.expand(shape), picture.narrow(axis, 0, inner)], axis)
        total, weight, step = total + (ahead + behind) * amount, weight + 2 * amount, step + 1
    return total / weight


def expose(dice: Dice, picture: Tensor, grain: Tensor, hardness: Tensor) -> Tensor:
    """Noise that grows with brightness, and the eight bits of a camera; `grain` (N, 3, S, S) is in [-1, 1]."""
    dark, bright = dice.between(0.002, mix(0.012, 0.03, hardness)), dice.between(0, mix(0.02, 0.05, hardness))
    noisy = picture + grain * (dark + bright * picture.sqrt()) * 2.4  # grain has standard deviation 1 / sqrt(6)
    return (noisy.clamp(0, 1) * 255 + 0.5).floor() / 255
