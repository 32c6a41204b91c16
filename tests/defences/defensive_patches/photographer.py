"""Photographs of printed cards, made up: a pinhole camera, light, a lens, a sensor, a JPEG; and where all truly is."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vallum.defences.defensive_patches.printing.drawing import Rectangle


@dataclass(frozen=True)
class Scene:
    yaw: float = 0.0  # degrees
    pitch: float = 0.0
    roll: float = 0.0
    wide: float = 400.0  # how many of the photo's pixels the card would be wide, seen from the front
    width: int = 960
    height: int = 720
    gradient: float = 0.4  # the light falls off by this much across the photo
    blur: float = 0.8  # pixels
    noise: float = 0.01
    quality: int = 90  # of the JPEG; 0: none
    barrel: float = 0.0  # the lens: r -> r (1 + barrel r^2), r = 1 at half of the photo's width
    seed: int = 0

    def to_photo(self, bounds: Rectangle) -> np.ndarray:
        """(3, 3): millimetres on the card to pixels of the photo, for a card whose middle the camera looks at."""
        left, top, right, bottom = bounds
        yaw, pitch, roll = (math.radians(angle) for angle in (self.yaw, self.pitch, self.roll))
        about_y = np.array([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
        about_z = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
        turned = about_z @ about_x @ about_y
        focal = 1.2 * self.width
        away = focal * (right - left) / self.wide
        plane = np.array([[1, 0, -(left + right) / 2], [0, 1, -(top + bottom) / 2], [0, 0, 1.0]])
        pose = np.stack([turned[:, 0], turned[:, 1], np.array([0, 0, away])], 1)
        camera = np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1.0]])
        return camera @ pose @ plane

    def places(self, bounds: Rectangle, points: np.ndarray) -> np.ndarray:
        moved = np.c_[points, np.ones(len(points))] @ self.to_photo(bounds).T
        return self._through_lens(moved[:, :2] / moved[:, 2:])

    def photograph(self, card: Image.Image, bounds: Rectangle, dots: float) -> Tensor:
        """(3, H, W): of a card's raster RGBA of so many dots per mm; what is clear shows the background."""
        draw = np.random.default_rng(self.seed)
        fine = 2
        raster = np.asarray(card).astype(np.float32) / 255
        start = [round(bounds[axis] * dots) / dots for axis in (0, 1)]  # as `raster` places it
        matrix = self.to_photo(bounds) @ np.array([[1 / dots, 0, start[0]], [0, 1 / dots, start[1]], [0, 0, 1]])
        # Places are those of edges, OpenCV's those of pixels' middles.
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        matrix = np.linalg.inv(half) @ np.diag([fine, fine, 1.0]) @ matrix @ half
        shape = (self.width * fine, self.height * fine)
        raster[..., :3] *= raster[..., 3:]
        # Blurred to the photo's own detail first, so that no dot is skipped.
        shrink = max(1, int(raster.shape[1] / self.wide / fine))
        if shrink > 1:
            raster = cv2.blur(raster, (shrink, shrink))
        seen = cv2.warpPerspective(raster, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        seen = cv2.resize(seen, (self.width, self.height), interpolation=cv2.INTER_AREA)
        rough = draw.uniform(0.15, 0.75, (9, 12, 3)).astype(np.float32)
        background = cv2.resize(rough, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        photo = seen[..., :3] + background * (1 - seen[..., 3:])
        light = 1 - self.gradient * np.linspace(0, 1, self.width, dtype=np.float32)[None, :, None]
        photo = photo * light
        if self.barrel:
            photo = self._bent(photo)
        if self.blur:
            photo = cv2.GaussianBlur(photo, (0, 0), self.blur)
        photo = photo + draw.normal(0, self.noise, photo.shape).astype(np.float32)
        eight = np.rint(photo.clip(0, 1) * 255).astype(np.uint8)
        if self.quality:
            file = io.BytesIO()
            Image.fromarray(eight).save(file, "JPEG", quality=self.quality, subsampling=0)
            eight = np.asarray(Image.open(file))
        return torch.from_numpy(eight.copy()).permute(2, 0, 1).float() / 255

    def _through_lens(self, places: np.ndarray) -> np.ndarray:
        middle = np.array([self.width / 2, self.height / 2])
        off = places - middle
        far = (off**2).sum(1, keepdims=True) / (self.width / 2) ** 2
        return np.asarray(middle + off * (1 + self.barrel * far))

    def _bent(self, photo: np.ndarray) -> np.ndarray:
        ys, xs = np.mgrid[0 : self.height, 0 : self.width].astype(np.float64) + 0.5
        goal = np.stack([xs, ys], -1).reshape(-1, 2)
        places = goal.copy()
        for _ in range(20):  # the lens the other way round, as a fixed point
            places += goal - self._through_lens(places)
        at = (places - 0.5).reshape(self.height, self.width, 2).astype(np.float32)
        return np.asarray(cv2.remap(photo, at[..., 0], at[..., 1], cv2.INTER_LINEAR))


def with_object(card: Image.Image, bounds: Rectangle, dots: float, hole: Rectangle, picture: Tensor) -> Image.Image:
    """The card's raster with a picture (3, h, w) behind its hole, where the object is."""
    left, top, right, bottom = (
        round((edge - start) * dots) for edge, start in zip(hole, (*bounds[:2], *bounds[:2]), strict=True)
    )
    pixels = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    shown = Image.fromarray(pixels).resize((right - left, bottom - top), Image.Resampling.NEAREST).convert("RGBA")
    whole = Image.new("RGBA", card.size)
    whole.paste(shown, (left, top))
    return Image.alpha_composite(whole, card)
