"""Noisy modelling: a pre-trained denoiser that defends, tunable at test time, with a certificate."""

from vallum.defences.noisy_modelling.de3 import De3
from vallum.defences.noisy_modelling.denoiser import Denoiser
from vallum.defences.noisy_modelling.hardening import NoisyModelling
from vallum.defences.noisy_modelling.noise import NoiseLaw, add_noise, noise_law
from vallum.defences.noisy_modelling.pretraining import NoisyModellingPretraining
from vallum.defences.noisy_modelling.source import load_noisy_modelling

__all__ = [
    "De3", "Denoiser", "NoisyModelling", "NoisyModellingPretraining", "NoiseLaw", "noise_law", "add_noise",
    "load_noisy_modelling",
]  # fmt: skip
