"""How long, how fast and on what a model is trained; what is learnt is the recipe's business."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from vallum.errors import UserError, did_you_mean
from vallum.specs import parameter, parameters

# What may differ between a run and its resumption: none of it changes what is learnt.
FREE = ("checkpoint_every", "cache", "workers", "show_every")


@dataclass(frozen=True)
class Settings:
    """The settings of one training run; the same settings and seed give the same weights.

    >>> Settings(epochs=3, optimizer="adamw").learning_rate
    0.001
    """

    epochs: int = parameter("passes over the training images", 30)
    batch_size: int = parameter("images per weight step, over all processes", 128)
    accumulate: int = parameter("parts that a process cuts its share of a batch into, to save memory", 1)
    optimizer: Literal["sgd", "adamw"] = parameter("sgd has Nesterov momentum 0.9", "sgd")
    lr: float | None = parameter("highest learning rate; none: 0.1 for sgd, 0.001 for adamw", None)
    weight_decay: float = parameter("on weights, not on biases and norms", 5e-4)
    schedule: Literal["cosine", "one_cycle", "constant"] = parameter("how the learning rate goes", "cosine")
    warmup: float = parameter("share of the steps in which the learning rate rises", 0.1)
    clip: float | None = parameter("longest gradient, over all weights; none: as it comes", None)
    average: float = parameter("decay of a moving average of the weights, as 0.999; 0: none", 0.0)
    precision: Literal["32-true", "bf16-mixed"] = parameter("of the passes; weights stay float32", "32-true")
    shift: float = parameter("random shift, as a share of the image's size", 0.125)
    flip: bool = parameter("mirror half of the images; wrong for signs and writing", False)
    colour: float = parameter("random change of brightness, contrast and saturation, as a share", 0.1)
    robust_images: int = parameter("validation images that the recipe's attack is tried on after each epoch", 256)
    seed: int = parameter("of the order of the images, their augmentation and everything else", 0)
    checkpoint_every: int = parameter("steps between checkpoints inside an epoch; 0: one per epoch", 500)
    show_every: int = parameter("steps between looks at the loss", 20)
    cache: float = parameter("gigabytes of decoded images that a process may keep", 2.0)
    workers: int = parameter("threads that read images ahead", 2)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "show_every", "workers"):
            self._demand(name, getattr(self, name) >= 1, "at least 1 is needed")
        for name in ("weight_decay", "shift", "colour", "checkpoint_every", "cache", "robust_images"):
            self._demand(name, getattr(self, name) >= 0, "it is not negative")
        for name in ("average", "warmup", "shift", "colour"):
            self._demand(name, 0 <= getattr(self, name) < 1, "a share below 1 is needed")
        for name in ("lr", "clip"):
            self._demand(name, getattr(self, name) is None or getattr(self, name) > 0, "it must be positive")
        for chosen in parameters(Settings):
            choices = getattr(chosen.type, "__args__", ()) if getattr(chosen.type, "__origin__", None) else ()
            value = getattr(self, chosen.name)
            self._demand(chosen.name, not choices or value in choices, f"one of {', '.join(map(str, choices))}")

    def _demand(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UserError(f"{name}={getattr(self, name)!r}", expected)

    @classmethod
    def of(cls, **options: Any) -> Settings:
        """From keyword arguments; one that is not known is answered with the nearest that is."""
        known = [p.name for p in parameters(cls)]
        for name in options:
            if name not in known:
                raise UserError(f"training has no setting {name!r}", remedy=did_you_mean(name, known))
        return cls(**options)

    @property
    def learning_rate(self) -> float:
        return self.lr if self.lr is not None else {"sgd": 0.1, "adamw": 1e-3}[self.optimizer]

    def binding(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}
