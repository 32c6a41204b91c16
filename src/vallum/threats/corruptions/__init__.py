"""What the world does to images without meaning harm: the nineteen corruptions of ImageNet-C, and some with depth.

Each is a threat named as in Hendrycks and Dietterich 2019 (arXiv 1903.12261), with the severity as first parameter:
`fog:3`, `jpeg:2.5`.
"""

from __future__ import annotations

from vallum.threats.corruptions.base import Corruption
from vallum.threats.corruptions.blur import DefocusBlur, GaussianBlur
from vallum.threats.corruptions.depth import defocus_by_depth, fog_by_depth
from vallum.threats.corruptions.elastic import ElasticTransform
from vallum.threats.corruptions.fog import Fog
from vallum.threats.corruptions.frost import Frost
from vallum.threats.corruptions.glass import GlassBlur
from vallum.threats.corruptions.jpeg import JpegCompression
from vallum.threats.corruptions.light import Brightness, Contrast, Saturate
from vallum.threats.corruptions.mce import ALEXNET, ALEXNET_CLEAN, mce, relative_mce
from vallum.threats.corruptions.motion import MotionBlur
from vallum.threats.corruptions.noises import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from vallum.threats.corruptions.pixelate import Pixelate
from vallum.threats.corruptions.snow import Snow
from vallum.threats.corruptions.spatter import Spatter
from vallum.threats.corruptions.zoom import ZoomBlur

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise")
BLUR = ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
WEATHER = ("snow", "frost", "fog", "brightness")
DIGITAL = ("contrast", "elastic_transform", "pixelate", "jpeg_compression")
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
BENCHMARK = NOISE + BLUR + WEATHER + DIGITAL  # the fifteen over which mean corruption error is taken
ALL = BENCHMARK + EXTRA

__all__ = [
    "ALEXNET",
    "ALEXNET_CLEAN",
    "ALL",
    "BENCHMARK",
    "BLUR",
    "DIGITAL",
    "EXTRA",
    "NOISE",
    "WEATHER",
    "Brightness",
    "Contrast",
    "Corruption",
    "DefocusBlur",
    "ElasticTransform",
    "Fog",
    "Frost",
    "GaussianBlur",
    "GaussianNoise",
    "GlassBlur",
    "ImpulseNoise",
    "JpegCompression",
    "MotionBlur",
    "Pixelate",
    "Saturate",
    "ShotNoise",
    "Snow",
    "Spatter",
    "SpeckleNoise",
    "ZoomBlur",
    "defocus_by_depth",
    "fog_by_depth",
    "mce",
    "relative_mce",
]
