"""The whole family in one recipe: pre-train the denoiser, then let the classifier learn from denoised images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vallum.defences.attack_mode import attack_mode
from vallum.defences.noisy_modelling.de3 import De3
from vallum.defences.noisy_modelling.encoders import vit_of
from vallum.defences.noisy_modelling.noise import add_noise, noise_law
from vallum.defences.noisy_modelling.pretraining import NoisyModellingPretraining, defence_in
from vallum.defences.plain import accuracy
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError
from vallum.images import Batch
from vallum.models.model import Model
from vallum.specs import parameter
from vallum.threats import PGD
from vallum.threats.losses import cross_entropy


@RECIPES.register("noisy_modelling")
@dataclass(frozen=True)
class NoisyModelling(NoisyModellingPretraining):
    """Pre-train a denoiser, then the model behind it on what the denoiser makes of noisy images.

    The training settings are those of the second part; `pretraining_*` those of the first, which is kept in the
    sub-folder `pretraining`.

    >>> NoisyModelling(sigma=0.2).spec
    'noisy_modelling:sigma=0.2'
    """

    start: Literal["model", "encoder"] = parameter("what the classifier learns on from", "model")
    finetuning_noise: str = parameter("law of the noise in the second part; none: as in the first", "")
    pretraining_epochs: int | None = parameter("none: as many as in the second part; 0: no first part", None)
    pretraining_lr: float = parameter("highest learning rate of the first part, with AdamW", 1e-3)
    label_smoothing: float = parameter("share of the label that is spread over all classes", 0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.finetuning_noise:
            noise_law(self.finetuning_noise)
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing={self.label_smoothing:g}", "a share below 1 is needed")

    def around(self, model: Model, images: Tensor) -> Model:
        if self.pretraining_epochs == 0 and not self.denoiser and not isinstance(model, De3):
            raise UserError(
                "pretraining_epochs=0, and the model has no denoiser yet", "one that has learnt something",
                "name one of your own as denoiser=, or harden a folder that noisy_modelling left",
            )  # fmt: skip
        return super().around(model, images)

    def probe(self) -> PGD:
        return PGD(eps=4 / 255, steps=10)

    def before(self) -> Sequence[tuple[str, Recipe, dict[str, Any]]]:
        if self.pretraining_epochs == 0:
            return ()
        names = [field.name for field in dataclasses.fields(NoisyModellingPretraining)]
        first = NoisyModellingPretraining(**{name: getattr(self, name) for name in names})
        epochs = {} if self.pretraining_epochs is None else {"epochs": self.pretraining_epochs}
        how = {"optimizer": "adamw", "lr": self.pretraining_lr, "weight_decay": 0.05, **epochs}
        return (("pretraining", first, how),)

    def learns(self, model: Model) -> nn.Module:
        return defence_in(model).model

    def companion(self, model: Model, images: Tensor) -> nn.Module:
        """Nothing is carried along; but this is before the first step, and where the classifier's start is made."""
        if self.start == "encoder":
            start_from_encoder(model)
        return nn.Module()

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        defence = defence_in(model)
        draws = context.draws(batch.keys, "noisy modelling")
        law = noise_law(self.finetuning_noise or self.noise)
        with torch.no_grad(), attack_mode(defence.denoiser, "eval"):
            noisy = add_noise(batch.images, law.draw(draws).to(batch.images.device), draws)
            seen = defence._denoised(noisy, batch.images, defence.hidden(draws))
        logits = defence.model(seen)
        loss = cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing).mean()
        return {"loss": loss, "train_accuracy": accuracy(logits, batch.labels)}


def start_from_encoder(model: Model) -> None:
    """Give the classifier of a defence, one of timm's transformers, what the denoiser's encoder has learnt."""
    defence = defence_in(model)
    vit, encoder = vit_of(defence.model), getattr(defence.denoiser, "encoder", None)
    known = {} if vit is None else vit.state_dict()
    learnt = {} if encoder is None else encoder.state_dict()
    if not learnt or any(name not in known or known[name].shape != learnt[name].shape for name in learnt):
        raise UserError(
            "the classifier cannot start from the denoiser's encoder",
            "both must be the same transformer of timm's",
            "harden a ViT without naming another encoder, or leave start= out",
        )
    assert vit is not None
    vit.load_state_dict({**known, **learnt})
