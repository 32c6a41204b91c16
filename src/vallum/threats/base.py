"""What everything that can happen to an image has in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws
from vallum.specs import Registry, parameters
from vallum.threats.norms import Norm, norm_named


@dataclass(frozen=True)
class Budget:
    """How far a threat may move an image: the evaluator verifies that it did not go further."""

    norm: Norm
    eps: float | Tensor


class Threat:
    """Something that happens to images: `threat(model, images, labels, keys) -> images`, same shape, in [0, 1].

    Subclasses are frozen dataclasses of hyper-parameters, registered in THREATS under the name that specs use. They
    hold no model, no data and no state. `keys` is one integer per image, what the draws for it depend on; without it,
    an image's place in the batch is its key.
    """

    kind: ClassVar[Literal["clean", "noise", "corruption", "attack"]]
    needs_gradient: ClassVar[bool] = False
    moves_labels: ClassVar[bool] = False
    fits: ClassVar[bool] = False  # is fitted to a model on other images before it meets any: see threats.universal
    seed: int

    @property
    def budget(self) -> Budget | None:
        """Norm and radius for an attack, None where no ball bounds what happens."""
        return None

    @property
    def targeted(self) -> bool:
        """Whether `labels` are what the images shall become, not what they are."""
        return False

    @property
    def passes(self) -> float:
        """About how many forward passes it costs per image, a backward counting as two: for estimates of time."""
        return 1.0

    @property
    def spec(self) -> str:
        return THREATS.spec(self)

    @property
    def fingerprint(self) -> str:
        """Of what it depends on beside its spec, as the content of a file."""
        return ""

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        raise NotImplementedError

    def with_labels(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The images, and the labels they have then: where a threat moves pixels, a mask is moved along."""
        return self(model, images, labels, keys), labels

    def draws(self, images: Tensor, keys: Sequence[int] | Tensor | None) -> Draws:
        if keys is not None and len(keys) != len(images):
            raise UserError(f"{len(keys)} keys for {len(images)} images", "one integer per image is needed")
        return Draws(self.seed, range(len(images)) if keys is None else keys).of(type(self).__name__)


class Bounded(Threat):
    """An attack inside a ball of radius `eps` around the image, in the norm called `norm`."""

    kind = "attack"
    eps: float | Tensor
    norm: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", norm_named(self.norm).name)
        for eps in self.eps.tolist() if isinstance(self.eps, Tensor) and self.eps.ndim else [float(self.eps)]:
            if not 0 <= eps < math.inf:
                raise UserError(f"eps={eps:g}", "a radius is finite and not negative", "write eps=8/255")
        if self.norm == "inf" and not isinstance(self.eps, Tensor) and self.eps > 1:
            raise UserError(f"eps={self.eps:g}", "images are in [0, 1]", f"write eps={self.eps:g}/255")
        for positive in parameters(type(self)):
            value = getattr(self, positive.name)
            if positive.name in ("steps", "restarts", "queries") and value < 1:
                raise UserError(f"{positive.name}={value}", "at least 1 is needed")
            if positive.name == "step_size" and value is not None and not 0 < value < math.inf:
                raise UserError(f"step_size={value:g}", "a length is positive", "leave it out for one that fits")

    @property
    def budget(self) -> Budget:
        return Budget(norm_named(self.norm), self.eps)


THREATS: Registry[Threat] = Registry("threat")
