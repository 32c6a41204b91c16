"""From the text in a saved folder to the defence, without its weights."""

from __future__ import annotations

from typing import Any, get_args

from torch import nn

from vallum.defences.noisy_modelling.de3 import De3
from vallum.defences.noisy_modelling.denoiser import Decoder, Denoiser, LearntFrom, Target
from vallum.defences.noisy_modelling.encoders import make_encoder
from vallum.errors import UserError
from vallum.models.model import Model, Wrapped
from vallum.models.request import MODEL_SOURCES, Request, guess_value, make_model
from vallum.specs import Source, read_value

LAYOUT = ("width", "depth", "heads")
KNOBS = ("sigma", "draws", "answer", "hide", "always")
OPTIONS = ("model", "encoder", "decoder", "target", "learnt_from", *LAYOUT, "denoiser", *KNOBS)


@MODEL_SOURCES.register("noisy_modelling")
def load_noisy_modelling(source: Source, request: Request) -> Model:
    """A model behind noise and a denoiser, untrained: noisy_modelling:?model=SOURCE&encoder=SOURCE&sigma=0.25."""
    source.refuse_unknown(*OPTIONS)
    said = source.options
    for needed in ("model",) if "denoiser" in said else ("model", "encoder"):
        if needed not in said:
            raise UserError(f"{source} lacks {needed}=", remedy="write noisy_modelling:?model=SOURCE&encoder=SOURCE")
    model = make_model(said["model"], request)
    draws = read_value(said.get("draws", "1"), int, "draws")
    always = guess_value(said.get("always", "false")) is True
    sigma = read_value(said.get("sigma", "0.25"), float, "sigma")
    hide = read_value(said.get("hide", "0"), float, "hide")
    architecture = source.but(model=None, **dict.fromkeys(KNOBS))
    denoiser = make_denoiser(architecture, saved=request.saved, trust=request.trust)
    answer: Any = said.get("answer", "vote")
    return De3(model, denoiser, sigma, draws, answer, hide=hide, always=always, source=architecture).eval()


def make_denoiser(source: Source, *, saved: bool = False, trust: bool = False) -> nn.Module:
    """What the options `encoder`, `decoder`, `target`, ... describe, or the module that `denoiser` names."""
    said = source.options
    if "denoiser" in said:
        made = make_model(said["denoiser"], Request(saved=saved, trust=trust))
        return made.network if isinstance(made, Wrapped) else made
    decoder, target = said.get("decoder", "transformer"), said.get("target", "pixels")
    learnt_from = said.get("learnt_from", "all")
    choices = (("decoder", decoder, Decoder), ("target", target, Target), ("learnt_from", learnt_from, LearntFrom))
    for name, value, known in choices:
        if value not in get_args(known):
            raise UserError(f"{name}={value!r}", f"one of {', '.join(get_args(known))}")
    layout = {name: read_value(said[name], int, name) for name in LAYOUT if name in said}
    if decoder == "linear" and layout:
        raise UserError(f"a linear decoder has no {next(iter(layout))}", remedy="leave it out")
    encoder = make_encoder(said["encoder"], saved=saved, trust=trust)
    return Denoiser(encoder, decoder, target, learnt_from, **layout)  # type: ignore[arg-type]
