"""Defensive patches: stickers around an object that help a model see what it is."""

from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.shapes import SHAPES, Corners, MaskFile, Ring, Shape, Square

__all__ = ["SHAPES", "Corners", "MaskFile", "PatchSet", "Ring", "Shape", "Square"]
