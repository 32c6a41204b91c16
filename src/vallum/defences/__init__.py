"""Everything that can be done about what happens to images; each recipe registers itself under its name."""

from __future__ import annotations

from vallum.defences.adversarial_training import Adversarial
from vallum.defences.depth_multitask import DepthMultitask
from vallum.defences.plain import Plain
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe, recipe

__all__ = ["RECIPES", "Adversarial", "Context", "DepthMultitask", "Losses", "Plain", "Recipe", "recipe"]
