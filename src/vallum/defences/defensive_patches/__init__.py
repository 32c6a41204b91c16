"""Defensive patches: stickers around an object that help a model see what it is."""

from vallum.defences.defensive_patches.make import make_patches
from vallum.defences.defensive_patches.makers import MAKERS, Maker
from vallum.defences.defensive_patches.only import attacked
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.patched import Patched
from vallum.defences.defensive_patches.scenes import Scenes
from vallum.defences.defensive_patches.shapes import SHAPES, Corners, MaskFile, Ring, Shape, Square

__all__ = [
    "MAKERS", "SHAPES", "Corners", "Maker", "MaskFile", "PatchSet", "Patched", "Ring", "Scenes", "Shape", "Square",
    "attacked", "make_patches",
]  # fmt: skip
