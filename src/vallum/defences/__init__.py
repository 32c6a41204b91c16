"""Everything that can be done about what happens to images; each recipe registers itself under its name."""

from __future__ import annotations

from vallum.defences.adversarial_training import Adversarial
from vallum.defences.base import Cost, Defence, Surface, surfaces_of
from vallum.defences.chance import draws_for
from vallum.defences.depth_multitask import DepthMultitask
from vallum.defences.noisy_modelling import De3, NoisyModelling, NoisyModellingPretraining
from vallum.defences.plain import Plain
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe, recipe
from vallum.defences.self_supervision import AmortisedRepair, JointSelfSupervision, SelfSupervised, SelfSupervision
from vallum.defences.shared_training import FastSharedTraining, SharedTraining

__all__ = [
    "RECIPES",
    "Adversarial",
    "AmortisedRepair",
    "Context",
    "Cost",
    "De3",
    "Defence",
    "DepthMultitask",
    "FastSharedTraining",
    "JointSelfSupervision",
    "Losses",
    "NoisyModelling",
    "NoisyModellingPretraining",
    "Plain",
    "Recipe",
    "SelfSupervised",
    "SelfSupervision",
    "SharedTraining",
    "Surface",
    "draws_for",
    "recipe",
    "surfaces_of",
]
