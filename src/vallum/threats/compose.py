"""Several things that happen to an image one after the other: "fog:3+jpeg:2"."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from vallum.errors import UserError
from vallum.threats.base import THREATS, Threat


@dataclass(frozen=True)
class Compose(Threat):
    """A chain of threats, the first one first. A part may be an attack: it sees what the parts before it left.

    What occurs twice draws twice: in gaussian+gaussian the second noise is another one. All other parts draw exactly
    what they would draw alone.
    """

    parts: tuple[Threat, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise UserError(f"a chain of {len(self.parts)}", "two parts or more are needed", "write fog:3+jpeg:2")
        for part in self.parts:
            refuse_unfitted(part)

    @property
    def kind(self) -> Literal["noise", "corruption", "attack"]:  # type: ignore[override]
        kinds = {part.kind for part in self.parts}
        return "attack" if "attack" in kinds else "noise" if kinds <= {"noise", "clean"} else "corruption"

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        return any(part.needs_gradient for part in self.parts)

    @property
    def moves_labels(self) -> bool:  # type: ignore[override]
        return any(part.moves_labels for part in self.parts)

    @property
    def targeted(self) -> bool:
        return any(part.targeted for part in self.parts)

    @property
    def passes(self) -> float:
        return self.passes_for(segments=False)

    def passes_for(self, segments: bool) -> float:
        return 1.0 + sum(part.passes_for(segments) - 1.0 for part in self.parts)

    def check_for_masks(self) -> None:
        for part in self.parts:
            part.check_for_masks()

    @property
    def fingerprint(self) -> str:
        marks = [part.fingerprint for part in self.parts]
        return "+".join(marks) if any(marks) else ""

    @property
    def seed(self) -> int:  # type: ignore[override]
        return self.parts[0].seed

    @property
    def spec(self) -> str:
        return "+".join(part.spec for part in self.parts)

    def __call__(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        return self.with_labels(model, images, labels, keys)[0]

    def with_labels(
        self, model: Any, images: Tensor, labels: Tensor, keys: Sequence[int] | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        seen: list[tuple[type, int]] = []
        for part in self.parts:
            before = seen.count((type(part), part.seed))
            seen.append((type(part), part.seed))
            own = reseeded(part, _again(part.seed, before)) if before else part
            images, labels = own.with_labels(model, images, labels, keys)
        return images, labels


def refuse_unfitted(part: Threat) -> None:
    """Only a threat by itself is fitted by an evaluation before it meets any image."""
    if part.fits and getattr(part, "found", None) is None:
        raise UserError(
            f"{part.spec} is fitted on many images before it meets any",
            "a part of another threat has nobody to fit it",
            "name what was found, as perturbation:FILE, or in Python give what its fit returns",
        )


def reseeded(threat: Threat, seed: int) -> Threat:
    """The same threat with this seed; the parts of a chain keep the distance between theirs."""
    if isinstance(threat, Compose):
        return Compose(tuple(reseeded(part, part.seed - threat.seed + seed) for part in threat.parts))
    return dataclasses.replace(threat, seed=seed)  # type: ignore[type-var]


def _again(seed: int, occurrence: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} again {occurrence}".encode(), digest_size=8).digest(), "little")


def chain(spec: str) -> Threat:
    """The threat that a spec names, or the chain of threats where a plus sign joins several.

    >>> chain("fog:3+jpeg:2").spec
    'fog:3+jpeg_compression:2'
    """
    # A plus sign before a digit is part of a number, as in 1e+3; one inside brackets belongs to what they hold.
    depth, places = 0, [-1]
    for found in re.finditer(r"[()\[\]]|\+(?!\d)", spec):
        depth += (found[0] in "([") - (found[0] in ")]")
        if found[0] == "+" and depth == 0:
            places.append(found.start())
    texts = [spec[one + 1 : other] for one, other in zip(places, [*places[1:], len(spec)], strict=True)]
    if len(texts) == 1:
        return THREATS.parse(spec)
    if not all(text.strip() for text in texts):
        raise UserError(f"{spec!r} has an empty part", "plus signs stand between threats", "write fog:3+jpeg:2")
    return Compose(tuple(THREATS.parse(text) for text in texts))
