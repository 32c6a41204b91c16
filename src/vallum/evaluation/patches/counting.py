"""What is counted of the parts of a run: for each image how often a model was right, or was taken in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vallum.defences.defensive_patches.wearing import Wear, Wrong
from vallum.evaluation import sections
from vallum.evaluation.patches.answers import Answers, Found, answers
from vallum.evaluation.patches.parts import DECODER, FILTER, PARTS, Wanted
from vallum.evaluation.statistics import share

CLEAN = "clean"
Of = Callable[[str], np.ndarray | None]  # of a model, by its name


class Counting:
    """Reads the parts that are there. An array has a number in [0, 1] for each image, in order of its key."""

    def __init__(self, out: Path, wanted: Wanted, held_out: Sequence[str] = (), further: Sequence[str] = ()) -> None:
        self.out, self.wanted, self.held_out = out, wanted, set(held_out)
        self.models, self.further = list(wanted.models), list(further)  # further: retrained ones
        self.corrupted = [one.spec for one in wanted.corruptions]
        self.attack = wanted.attack.spec
        self._found: dict[str, Found] = {}

    def part(self, name: str) -> Found:
        """Nothing, where it was not measured."""
        if name not in self._found:
            folder = self.out if name == "none" else self.out / PARTS / name
            self._found[name] = answers(folder) if (folder / "plan.json").is_file() else {}
        return self._found[name]

    def right(self, part: str, model: str, threats: Sequence[str]) -> np.ndarray | None:
        return self._mean(part, model, threats, lambda one: one.right)

    def without_labels(self, model: str, rule: str, threats: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
        """By a rule and without any patch, on the images that both have: a rule was tried on few."""
        ruled, bare = self.part("rules"), self.part("none")
        named = f"{model}, {rule}"
        if not all((named, spec) in ruled and (model, spec) in bare for spec in threats):
            return None
        keys = ruled[named, threats[0]].keys
        by_rule = np.mean([ruled[named, spec].right for spec in threats], 0)
        return by_rule, np.mean([bare[model, spec].at(keys).right for spec in threats], 0)

    def hijacked(self, part: str, model: str, threats: Sequence[str], wear: Wear | None = None) -> np.ndarray | None:
        """Whether the answer is the class of another's patch, which the image wears."""
        worn = wear or Wrong(self.wanted.patches, self.wanted.seed)
        return self._mean(part, model, threats, lambda one: one.taken_for_worn(worn))

    def _mean(
        self, part: str, model: str, threats: Sequence[str], of: Callable[[Answers], np.ndarray]
    ) -> np.ndarray | None:
        there = [found for spec in threats if (found := self.part(part).get((model, spec))) is not None]
        return np.mean([of(one) for one in there], 0) if there and len(there) == len(threats) else None

    def called(self, model: str) -> str:
        return f"{model} (held out)" if model in self.held_out else model

    @property
    def columns(self) -> list[str]:
        return [self.called(model) for model in self.models]

    def each(self, of: Of) -> dict[str, np.ndarray | None]:
        """For every model, by what tables call it."""
        return {self.called(model): of(model) for model in self.models}

    @property
    def groups(self) -> dict[str, list[str]]:
        """The models that patches were made on, and those that were held out."""
        found: dict[str, list[str]] = {"made on": [], "held out": []}
        for model in self.models:
            found["held out" if model in self.held_out else "made on"].append(model)
        return {name: models for name, models in found.items() if models}

    @staticmethod
    def over(models: Sequence[str], of: Of) -> np.ndarray | None:
        """Mean over models, image by image."""
        found = [one for model in models if (one := of(model)) is not None]
        return np.mean(found, 0) if found and len(found) == len(models) else None

    @property
    def arms(self) -> dict[str, str]:
        """What an image can wear, and the part in which it does."""
        named = {
            "own patch": "own", "nothing": "none", "grey": "grey", "random colours": "random", "patch alone": "alone",
            "another's patch: right in spite": "wrong", "patches permuted: right in spite": "permuted",
        }  # fmt: skip
        for name in self.wanted.beside:
            named |= {f"{name}: own": f"{name}-own", f"{name}: alone": f"{name}-alone"}
        return {name: part for name, part in named.items() if self.part(part)}

    @property
    def readers(self) -> dict[str, tuple[str, str]]:
        """Machines that look at no object: the part, and what the model is called there."""
        found = {
            "these patches, read by a matched filter": ("own-read", FILTER),
            "a barcode, read by a matched filter": ("barcode-read", FILTER),
            f"an {self.wanted.marker} marker, read by OpenCV": ("marker-read", DECODER),
        }
        return {name: one for name, one in found.items() if self.part(one[0])}

    def line(self, name: str, points: Sequence[tuple[str, str]], model: str) -> sections.Line | None:
        """Parts and threats along an axis, on the images that all of them have."""
        there = [one for part, spec in points if (one := self.part(part).get((model, spec))) is not None]
        if not there or len(there) < len(points):
            return None
        keys = min((one.keys for one in there), key=len)
        at = [share(one.at(keys).right) for one in there]
        values, low, high = (tuple(getattr(one, part) for one in at) for part in ("value", "low", "high"))
        return sections.Line(name, values, low, high)

    def images(self, threats: Sequence[str]) -> str:
        """What a table says of where its numbers come from."""
        under = "Clean." if list(threats) == [CLEAN] else f"Mean over {', '.join(threats)}, after the patch."
        return f"{self.wanted.n} images; attacks and label-free rules on {self.wanted.few} of them. {under}"
