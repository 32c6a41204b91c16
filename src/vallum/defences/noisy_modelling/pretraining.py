"""Pre-training by noisy image modelling: the denoiser of a defence learns, the model behind it stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vallum.defences.noisy_modelling.de3 import Answer, De3, sees_images
from vallum.defences.noisy_modelling.denoiser import Decoder, Denoiser, Loss, Target
from vallum.defences.noisy_modelling.encoders import encoder_for
from vallum.defences.noisy_modelling.noise import NoiseLaw, add_noise, noise_law
from vallum.defences.noisy_modelling.source import make_denoiser
from vallum.defences.recipe import RECIPES, Context, Losses, Recipe
from vallum.errors import UserError, a
from vallum.images import Batch
from vallum.models.model import Model
from vallum.specs import Source, parameter, write_value


@RECIPES.register("noisy_modelling_pretraining")
@dataclass(frozen=True)
class NoisyModellingPretraining(Recipe):
    """Learn to take noise away, and put that in front of the model, which stays as it is.

    `mask=0.75,noise=0,loss_on=hidden` is masked image modelling, the baseline; both together work too. Where the model
    is a defence of this family already, its denoiser learns on.

    >>> NoisyModellingPretraining(noise="gamma(25,3/255)").spec
    'noisy_modelling_pretraining:noise=gamma(25,3/255)'
    """

    sigma: float = parameter("noise of the defence when it is used; 0: off; adjustable later", 0.25)
    draws: int = parameter("of noise for one answer", 1)
    answer: Answer = parameter("of several draws: their vote, or the mean of their probabilities", "vote")
    noise: str = parameter("law of what is learnt from: uniform(0,0.5), gamma(25,3/255), 0.25, paper", "uniform(0,0.5)")
    mask: float = parameter("share of the patches that are hidden as well", 0.0)
    hide: float = parameter("share of the patches that the defence hides when it is used, to compare with", 0.0)
    loss: Loss = parameter("between what was said and the image: mse or l1", "mse")
    loss_on: str = parameter("all patches, or the hidden ones", "all")
    encoder: str = parameter("a source of timm's ViT; none: the model's own architecture, or a small one", "")
    decoder: Decoder = parameter("transformer, as in MAE, or linear, as in SimMIM", "transformer")
    width: int = parameter("of the decoder's transformer", 96)
    depth: int = parameter("of the decoder's transformer", 2)
    heads: int = parameter("of the decoder's transformer", 3)
    target: Target = parameter("what the loss counts: pixels, or each patch by its own deviation", "pixels")
    denoiser: str = parameter("FILE.py:function of your own, from noisy images to images, instead of all that", "")

    def __post_init__(self) -> None:
        law = noise_law(self.noise)
        if not 0 <= self.mask < 1:
            raise UserError(f"mask={self.mask:g}", "a share below 1 is needed")
        if self.hide and not self.mask:
            raise UserError(f"hide={self.hide:g}", "a denoiser that has learnt to guess patches", "give mask= as well")
        if self.loss_on not in ("all", "hidden") or (self.loss_on == "hidden" and not self.mask):
            raise UserError(f"loss_on={self.loss_on}", "all, or with a mask hidden")
        if not self.mask and getattr(law, "sigma", 1) == 0:
            raise UserError("without noise and without a mask there is nothing to learn", remedy="give noise or mask")

    @property
    def law(self) -> NoiseLaw:
        return noise_law(self.noise)

    def around(self, model: Model, images: Tensor) -> Model:
        if isinstance(model, De3):
            return model
        source = Source("noisy_modelling", "", self._architecture(model, images))
        denoiser = make_denoiser(source, trust=True)
        return De3(model, denoiser, self.sigma, self.draws, self.answer, hide=self.hide, source=source)

    def learns(self, model: Model) -> nn.Module:
        return defence_in(model).denoiser

    def step(self, model: Model, batch: Batch, context: Context) -> Losses:
        denoiser = defence_in(model).denoiser
        draws, images = context.draws(batch.keys, "noisy modelling"), batch.images
        sigma = self.law.draw(draws).to(images.device)  # (N,)
        noisy = add_noise(images, sigma, draws)
        if isinstance(denoiser, Denoiser):
            hidden = denoiser.hide(self.mask, draws) if self.mask else None
            values = denoiser.loss(noisy, images, hidden, self.loss, self.loss_on == "all")
        else:
            found = denoiser(noisy, images) if sees_images(denoiser) else denoiser(noisy)
            off = found - images
            values = (off.abs() if self.loss == "l1" else off.square()).flatten(1).mean(1)
        return {"loss": values.mean()}

    def _architecture(self, model: Model, images: Tensor) -> dict[str, str]:
        if self.denoiser:
            return {"denoiser": self.denoiser}
        said = {"encoder": self.encoder or encoder_for(model, images), "decoder": self.decoder}
        if self.decoder == "transformer":
            said |= {name: write_value(getattr(self, name)) for name in ("width", "depth", "heads")}
        learnt_from = {"learnt_from": "hidden"} if self.loss_on == "hidden" else {}
        return {**said, "target": self.target, **learnt_from}


def defence_in(model: Model) -> De3:
    """The defence that a recipe of this family works on."""
    if not isinstance(model, De3):
        raise UserError(f"{a(model)} has no denoiser", "a defence of noisy modelling", "let `train` put it there")
    return model
