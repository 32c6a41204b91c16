"""What a training-time defence is: what one step does. The loop around it is in vallum.training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from vallum.images import Batch, Draws, Task
from vallum.models.model import Model
from vallum.specs import Registry
from vallum.threats.base import Threat

KEPT = "companion.safetensors"  # in the folder of a trained model: what its recipe keeps of the companion
Losses = dict[str, Tensor]  # "loss" is minimised; whatever else is there goes to the log


@dataclass
class Context:
    """Where in the training a step is, and what a recipe may need of the loop."""

    seed: int = 0
    epoch: int = 0
    step: int = 0  # weight steps done before this one
    steps: int = 1  # weight steps of the whole training
    offset: int = 0  # where in the step's images, over all processes, this process's begin
    total: int = 0  # how many images the step has, over all processes
    companion: nn.Module = field(default_factory=nn.Module)  # what the recipe's `companion` returned
    sum_over_processes: Callable[[Tensor], Tensor] = lambda values: values

    @property
    def progress(self) -> float:
        """The share of the training that is done after this step, for what grows or falls along it."""
        return (self.step + 1) / self.steps

    def draws(self, keys: Sequence[int] | Tensor, owner: str) -> Draws:
        """Fresh in each epoch, the same for an image whatever batch it is in."""
        return Draws(self.seed, keys, f"epoch {self.epoch}/{owner}")

    def seed_of_epoch(self, owner: str) -> int:
        """The same for a threat, which takes an integer."""
        text = f"{self.seed}/epoch {self.epoch}/{owner}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")


class Recipe:
    """What one step of training does.

    Subclasses are frozen dataclasses of hyper-parameters, registered in RECIPES under the name that specs use. What
    changes while training lives in the companion, never in the recipe.
    """

    trains: ClassVar[tuple[Task, ...]] = tuple(Task)  # what the models that it trains may be there for
    settles_on: ClassVar[int] = 0  # clean training images that `settle` gets to see

    @property
    def spec(self) -> str:
        return RECIPES.spec(self)

    def around(self, model: Model, images: Tensor) -> Model:
        """What is trained and saved: the model itself, or a defence around it; some images tell their shape."""
        return model

    def before(self) -> Sequence[tuple[str, Recipe, dict[str, Any]]]:
        """Trainings of the same model that come first: the sub-folder of each, its recipe, its own settings."""
        return ()

    def learns(self, model: Model) -> nn.Module:
        """The part of the model that learns; the rest stays as it is."""
        return model

    def companion(self, model: Model, images: Tensor) -> nn.Module:
        """What lives beside the model while it is trained, given a first batch of images to know their shape.

        Its parameters, a decoder's say, are trained with the model's; its buffers, a bank of perturbations say, keep
        what one step leaves for the next. All of it is in the checkpoints, none of it in the trained model. Buffers
        must be the same on every process; floating ones are averaged over the processes after each step.
        """
        return nn.Module()

    def doubts(self, model: Model, images: int, at_once: int) -> list[str]:
        """What its user should know before the first step, in a line each, with what to do about it.

        A weight step has so many images over all processes, and so many of them go through the network at once.
        """
        return []

    def hindsight(self, row: Mapping[str, float]) -> list[str]:
        """The same after the last epoch, whose line in the log is `row`."""
        return []

    def prepare(self, model: Model, batches: Sequence[Batch], context: Context) -> Sequence[Any]:
        """Called once for each weight step, with all of this process's parts of it; `step` gets what this returns.

        The place for what must see more than one part: a perturbation shared by images of several parts and
        processes, with `context.sum_over_processes` for its gradient.
        """
        return batches

    def step(self, model: Model, batch: Any, context: Context) -> Losses:
        """The losses of one part, each a mean over its images."""
        raise NotImplementedError

    def settle(self, model: Model, batches: Iterable[Batch]) -> dict[str, Any]:
        """Once at the end, with the weights that are saved: for what must be known of clean training images.

        Every process sees the same images. Returned is what is worth keeping beside `finish`'s findings.
        """
        return {}

    def finish(self, model: Model, companion: nn.Module) -> dict[str, Any]:
        """What is known of the trained model besides its accuracy, to be kept beside it; called once, at the end.

        An entry "failed" says in a line why this is not what the recipe promises; the training ends with that error.
        """
        return {}

    def keep(self, companion: nn.Module) -> dict[str, Tensor]:
        """Tensors of the companion, in its own memory, that are saved beside the model's for whoever asks for them."""
        return {}

    def probe(self) -> Threat | None:
        """The attack under which accuracy is worth watching while this recipe is at work."""
        return None


RECIPES: Registry[Recipe] = Registry("recipe")


def recipe(spec: str | Recipe) -> Recipe:
    """The recipe that a spec names; a recipe itself comes back as it is."""
    return RECIPES.parse(spec) if isinstance(spec, str) else spec
