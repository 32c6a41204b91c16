"""Shared adversarial training, Mummadi et al. 2019 (arXiv 1812.03705): hard images whose perturbation others share."""

from __future__ import annotations

from vallum.defences.shared_training.recipe import FastSharedTraining, SharedTraining

__all__ = ["FastSharedTraining", "SharedTraining"]
