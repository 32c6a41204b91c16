"""What everything that can happen to an image has in common."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vallum.errors import UserError
from vallum.images import Draws, check_images
from vallum.specs import Registry, parameters
from vallum.threats.given import check_labels, explained, learning, untaught
from vallum.threats.losses import AWAY_ONLY
from vallum.threats.norms import Length, norm_named


@dataclass(frozen=True)
class Budget:
    """How far a threat may move an image: the evaluator verifies that it did not go further."""

    norm: Length
    eps: float | Tensor


class Threat:
    """Something that happens to images: `threat(model, images, labels, keys) -> images`, same shape, in [0, 1].

    Subclasses are frozen dataclasses of hyper-parameters, registered in THREATS under the name that specs use. They
    hold no model, no data and no state. `keys` is one integer per image, what the draws for it depend on; without it,
    an image's place in the batch is its key. Images that are none, as integers or pixels in 0..255, raise a UserError.
    """

    kind: ClassVar[Literal["clean", "noise", "corruption", "attack"]]
    needs_gradient: ClassVar[bool] = False
    moves_labels: ClassVar[bool] = False
    refuses_masks: ClassVar[str] = ""  # why it is of no use against a segmenter, and what is; empty: it is of use
    fits: ClassVar[bool] = False  # is fitted to a model on other images before it meets any: see threats.universal
    looks: ClassVar[bool] = True  # at the model and at the labels, if it is an attack, when it meets an image
    seed: int

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        for name in ("__call__", "with_labels"):
            if name in cls.__dict__:
                setattr(cls, name, _checked(cls.__dict__[name]))

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

    def passes_for(self, segments: bool) -> float:
        """The same where it depends on what is attacked: a segmenter or a classifier."""
        return self.passes

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

    def check_for_masks(self) -> None:
        """Say so where this is of no use against a segmenter, before it does nothing and passes for robustness."""
        if self.refuses_masks:
            raise UserError(f"{self.spec} against a segmenter", "a classifier", self.refuses_masks)

    def check_for_classes(self) -> None:
        """The same of a classifier."""

    def draws(self, images: Tensor, keys: Sequence[int] | Tensor | None) -> Draws:
        if keys is not None and len(keys) != len(images):
            raise UserError(f"{len(keys)} keys for {len(images)} images", "one integer per image is needed")
        return Draws(self.seed, range(len(images)) if keys is None else keys).of(type(self).__name__)


def _checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, after one look at what it is given: a pass over them costs nothing beside a pass of a network."""

    @functools.wraps(call)
    def checked(
        self: Threat, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Any:
        if not isinstance(images, Tensor) or images.numel() or images.ndim != 4:
            check_images(images)
        looks = self.kind == "attack" and self.looks
        if looks:
            check_labels(labels, images, model)
        if isinstance(labels, Tensor) and labels.ndim == 3:
            self.check_for_masks()
        if not looks:
            return call(self, model, images, labels, keys)
        if labels.ndim == 1:
            self.check_for_classes()
        with explained(model, images, labels), untaught(learning(model, stacklevel=2)):
            return call(self, model, images, labels, keys)

    return checked


def check_radius(radius: float | Tensor, norm: str) -> None:
    for eps in radius.flatten().tolist() if isinstance(radius, Tensor) else [float(radius)]:
        if not 0 <= eps < math.inf:
            raise UserError(f"eps={eps:g}", "a radius is finite and not negative", "write eps=8/255")
        if norm == "inf" and eps > 1:
            raise UserError(f"eps={eps:g}", "images are in [0, 1]", f"write eps={eps:g}/255")


def check_each(threat: Threat, fits: Callable[[float], bool], expected: str, *names: str) -> None:
    """Raise a UserError for the first of these parameters whose value does not fit."""
    for name in names:
        if not fits(value := getattr(threat, name)):
            raise UserError(f"{name}={value:g}", expected)


def positive(value: float) -> bool:
    return 0 < value < math.inf


def is_share(value: float) -> bool:
    return 0 <= value <= 1


class Bounded(Threat):
    """An attack inside a ball of radius `eps` around the image, in the norm called `norm`."""

    kind = "attack"
    eps: float | Tensor
    norm: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", norm_named(self.norm).name)
        check_radius(self.eps, self.norm)
        if self.targeted and (loss := getattr(self, "loss", "")) in AWAY_ONLY:
            raise UserError(f"loss={loss} leads away from a label", "targeted leads towards it", "take cross_entropy")
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
