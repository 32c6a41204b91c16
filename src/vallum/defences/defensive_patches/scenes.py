"""What lies between a printed patch and the picture of it: how it was stuck on, light, weather, lens and file.

Each image draws all of it for itself, from its own key: the same in any batch.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.models.making import need
from vallum.specs import Registry, parameter, parameters


@dataclass(frozen=True)
class Scenes:
    """Nothing at all, unless it is asked for: the patch upright in its place, and the picture as it was.

    >>> Scenes(rotation=10).placed(Draws(0, [1]), torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 3, 3])
    """

    shift: float = parameter("stuck on askew: by up to so many pixels of the image", 0.0)
    rotation: float = parameter("turned by up to so many degrees", 0.0)
    scale: float = parameter("seen up to so many times larger or smaller", 1.0)
    perspective: float = parameter("tilted: its edge nearer or farther by this share of its distance", 0.0)
    light: float = parameter("all brighter or darker, by a share", 0.0)
    contrast: float = parameter("by a share", 0.0)
    gamma: float = parameter("exponent, up or down by a share", 0.0)
    saturation: float = parameter("by a share", 0.0)
    warmth: float = parameter("red up and blue down, or the other way, by a share", 0.0)
    slope: float = parameter("light that falls off across the image, by so much in all", 0.0)
    haze: float = parameter("densest, as a share of what is seen", 0.0)
    rain: float = parameter("of how many images, as a share", 0.0)
    snow: float = parameter("of how many images, as a share", 0.0)
    blur: float = parameter("of the lens: largest standard deviation in pixels", 0.0)
    motion: int = parameter("of the camera: half the length of the blur in pixels, in half of the images", 0)
    noise: float = parameter("of the sensor: largest standard deviation", 0.0)
    jpeg: float = parameter("lowest quality, in half of the images; 100: no file", 100.0)

    def __post_init__(self) -> None:
        for one in parameters(type(self)):
            value = getattr(self, one.name)
            least = 1 if one.name in ("scale", "jpeg") else 0
            if not least <= value < math.inf or (one.name == "jpeg" and value > 100):
                raise UserError(f"{one.name}={value:g} of the scenes", f"{least} or more is needed")
        if max(self.light, self.contrast, self.gamma, self.perspective, self.haze, self.rain, self.snow) >= 1:
            raise UserError("light, contrast, gamma, perspective, haze, rain or snow is 1 or more", "a share below 1")

    @property
    def spec(self) -> str:
        return SCENES.spec(self)

    def placed(self, draws: Draws, images: Tensor) -> Tensor | None:
        """(N, 3, 3): where each patch lies, as `laying.lay` takes it; None where all lie upright."""
        if not (self.shift or self.rotation or self.scale > 1 or self.perspective):
            return None
        drawn = draws.uniform(6, purpose="place", device=images.device).to(images.dtype) * 2 - 1  # (N, 6)
        down, across, turn, grow, tilt, nod = drawn.unbind(1)
        radians, scale = turn * self.rotation * math.pi / 180, self.scale**grow
        cos, sin, one = radians.cos() / scale, radians.sin() / scale, torch.ones_like(turn)
        right, below = -across * self.shift, -down * self.shift
        rows = [cos, -sin, cos * right - sin * below, sin, cos, sin * right + cos * below, 0 * one, 0 * one, one]
        matrix = torch.stack(rows, 1).view(-1, 3, 3)
        half = max(images.shape[2:]) / 2
        far = torch.eye(3).to(images).repeat(len(images), 1, 1)
        far[:, 2, 0], far[:, 2, 1] = tilt * self.perspective / half, nod * self.perspective / half
        return matrix @ far

    def seen(self, images: Tensor, draws: Draws) -> Tensor:
        """The images as a camera would have taken them; gradients flow."""
        photometric = parameters(type(self))[4:]
        if all(getattr(self, one.name) == one_off for one, one_off in zip(photometric, _OFF, strict=True)):
            return images
        kornia = need("kornia", "patches")
        tell = functools.partial(_told, draws.uniform(24, purpose="scene", device=images.device).to(images.dtype))
        images = self._lit(images, kornia, tell)
        images = self._weathered(images, kornia, tell, draws)
        return self._recorded(images, kornia, tell, draws).clamp(0, 1)

    def _lit(self, images: Tensor, kornia: Any, tell: Any) -> Tensor:
        if self.light:
            images = kornia.enhance.adjust_contrast(images, 1 + self.light * tell(0))
        if self.contrast:
            images = kornia.enhance.adjust_contrast_with_mean_subtraction(images, 1 + self.contrast * tell(1))
        if self.gamma:  # the slope of a root is infinite in black
            images = kornia.enhance.adjust_gamma(images.clamp_min(1e-2), (1 + self.gamma) ** tell(2))
        if self.saturation:
            images = kornia.enhance.adjust_saturation_with_gray_subtraction(images, 1 + self.saturation * tell(3))
        if self.warmth:
            warm = self.warmth * tell(4)
            images = images * torch.stack([1 + warm, torch.ones_like(warm), 1 - warm], 1)[:, :, None, None]
        if self.slope:
            angle = tell(5) * math.pi
            rows, columns = (torch.linspace(-0.5, 0.5, size).to(images) for size in images.shape[2:])
            along = rows[:, None] * angle.sin()[:, None, None] + columns * angle.cos()[:, None, None]
            images = images + self.slope * tell(6)[:, None, None, None] * along[:, None]
        return images.clamp(0, 1)

    def _weathered(self, images: Tensor, kornia: Any, tell: Any, draws: Draws) -> Tensor:
        if self.haze:
            thick = self.haze * (tell(7) + 1)[:, None, None, None] / 2
            images = images * (1 - thick) + thick * (0.8 + 0.15 * tell(8)[:, None, None, None])
        if self.rain and len(rows := (tell(9) + 1 < 2 * self.rain).nonzero()[:, 0]):
            height, width = images.shape[2:]
            drops = max(height * width // 100, 1)
            places = draws.take(rows).uniform(drops, 2, purpose="rain", device=images.device).to(images.dtype)
            count = len(rows)
            lean = (tell(10)[rows] * width / 16).round()
            long = 1 + ((tell(11)[rows] + 1) * height / 12).floor()
            drawn = {
                "number_of_drops_factor": torch.full((count,), drops, dtype=torch.long),
                "drop_height_factor": long.clamp(1, height - 1).long(),
                "drop_width_factor": lean.long(),
                "coordinates_factor": places,
            }
            rain = kornia.augmentation.RandomRain(p=1.0)
            images = images.index_copy(0, rows, rain.apply_transform(images[rows], drawn, {}))
        if self.snow and len(rows := (tell(12) + 1 < 2 * self.snow).nonzero()[:, 0]):
            drawn = {"snow_coefficient": 0.3 + 0.2 * tell(13)[rows], "brightness": 2 + tell(14)[rows]}
            snow = kornia.augmentation.RandomSnow(p=1.0)
            images = images.index_copy(0, rows, snow.apply_transform(images[rows], drawn, {}))
        return images

    def _recorded(self, images: Tensor, kornia: Any, tell: Any, draws: Draws) -> Tensor:
        if self.blur:
            sigma = (self.blur * (tell(15) + 1) / 2).clamp_min(1e-2)[:, None].expand(-1, 2)
            images = kornia.filters.gaussian_blur2d(images, _odd(6 * self.blur, images), sigma)
        if self.motion and len(rows := (tell(16) < 0).nonzero()[:, 0]):
            angle, direction = tell(17)[rows] * 180, tell(18)[rows]
            size = _odd(2 * self.motion, images)
            images = images.index_copy(0, rows, kornia.filters.motion_blur(images[rows], size, angle, direction))
        if self.noise:
            strength = self.noise * (tell(19) + 1)[:, None, None, None] / 2
            images = images + strength * draws.normal(*images.shape[1:], purpose="sensor").to(images)
        if self.jpeg < 100 and len(rows := (tell(20) < 0).nonzero()[:, 0]):
            quality = 100 - (100 - self.jpeg) * (tell(21)[rows] + 1) / 2
            coded = kornia.enhance.jpeg_codec_differentiable(images[rows].clamp(0, 1), quality)
            images = images.index_copy(0, rows, coded)
        return images


SCENES: Registry[Scenes] = Registry("kind of scenes")
SCENES.register("plain", "none")(Scenes)


@SCENES.register("outdoors")
@dataclass(frozen=True)
class Outdoors(Scenes):
    """By hand on an object by a road, at any time of the day."""

    shift: float = parameter("stuck on askew: by up to so many pixels of the image", 1.0)
    rotation: float = parameter("turned by up to so many degrees", 10.0)
    scale: float = parameter("seen up to so many times larger or smaller", 1.1)
    perspective: float = parameter("tilted: its edge nearer or farther by this share of its distance", 0.1)
    light: float = parameter("all brighter or darker, by a share", 0.4)
    contrast: float = parameter("by a share", 0.4)
    gamma: float = parameter("exponent, up or down by a share", 0.3)
    saturation: float = parameter("by a share", 0.4)
    warmth: float = parameter("red up and blue down, or the other way, by a share", 0.15)
    slope: float = parameter("light that falls off across the image, by so much in all", 0.3)
    haze: float = parameter("densest, as a share of what is seen", 0.5)
    rain: float = parameter("of how many images, as a share", 0.1)
    snow: float = parameter("of how many images, as a share", 0.1)
    blur: float = parameter("of the lens: largest standard deviation in pixels", 1.0)
    motion: int = parameter("of the camera: half the length of the blur in pixels, in half of the images", 1)
    noise: float = parameter("of the sensor: largest standard deviation", 0.1)
    jpeg: float = parameter("lowest quality, in half of the images; 100: no file", 40.0)


_OFF = tuple(one.default for one in parameters(Scenes)[4:])


def scenes(spec: str | Scenes) -> Scenes:
    """What a spec names; scenes themselves come back as they are."""
    return SCENES.parse(spec) if isinstance(spec, str) else spec


def _told(drawn: Tensor, place: int) -> Tensor:
    """(N,) in [-1, 1): what each image has drawn for one of the effects."""
    return 2 * drawn[:, place] - 1


def _odd(length: float, images: Tensor) -> int:
    """A kernel's size: odd, three at least, and no larger than the images."""
    return max(min(2 * math.ceil(length / 2) + 1, (min(images.shape[2:]) - 1) | 1), 3)
