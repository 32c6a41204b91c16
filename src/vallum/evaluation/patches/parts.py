"""What is measured of patches, part by part: each a run of its own, of some models on images that wear something.

A part is what `evaluate` takes, so any model or defence is attacked there as anywhere else, and a part that was killed
goes on where it stood. All parts show the same images under the same keys: what they say can be paired image by image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vallum.data.data import Data
from vallum.defences.defensive_patches.codes import barcode, marker
from vallum.defences.defensive_patches.only import Within
from vallum.defences.defensive_patches.patch_set import PatchSet
from vallum.defences.defensive_patches.readers import MarkerReader, MatchedFilter
from vallum.defences.defensive_patches.rules import RULES
from vallum.defences.defensive_patches.wearing import (
    Alone,
    Askew,
    Beside,
    EachPatch,
    Grey,
    Noise,
    Nothing,
    Own,
    Peeled,
    Permuted,
    Wear,
    Wearing,
    Wrong,
)
from vallum.errors import UserError
from vallum.evaluation.evaluator import choose, evaluate
from vallum.evaluation.store import write_text
from vallum.models import model_fingerprint
from vallum.models.model import Model
from vallum.threats import threat
from vallum.threats.base import Threat

DONE = "part-done"  # in a part's folder, once it is whole: of what
PARTS = "parts"  # in the run's folder: one for each part; the run itself is the models on images without any patch
FILTER, DECODER = "matched filter", "marker decoder"  # models that read labels and look at no object
SHIFTS, ROTATIONS, SCALES, PEELED = (1.0, 2.0, 3.0), (5.0, 10.0, 20.0), (0.8, 0.9, 1.1, 1.2), (0.25, 0.5)


@dataclass(frozen=True)
class Part:
    """Some models on images that wear something, under some threats."""

    name: str
    data: Data
    models: dict[str, Model]
    threats: tuple[Threat, ...]
    images: int | None  # how many; None: all

    @property
    def weight(self) -> float:
        """About how many images pass through a model: for an estimate of time."""
        slower = {"diagonal": len(self.data.classes), "two pass": 2}
        models = sum(slower.get(name.rpartition(", ")[2], 1) for name in self.models)
        return (self.images or len(self.data)) * models * (1 + sum(one.passes for one in self.threats))

    def folder(self, out: Path) -> Path:
        return out if self.name == "none" else out / PARTS / self.name

    def work(self, out: Path, **how: Any) -> None:
        """Measure it, or what is left of it; `how` is for `evaluate`."""
        pictures = 12 if self.name in ("none", "own") else 0
        folder, mine = self.folder(out), self._identity(how)
        done = folder / DONE
        if done.is_file() and done.read_text("utf-8") == mine:
            return  # evaluate would find as much, cell by cell
        evaluate(
            self.models, self.data, self.threats, out=folder, n=self.images, undefended=False, pictures=pictures,
            progress=False, **how,
        )  # fmt: skip
        write_text(done, mine)

    def _identity(self, how: Mapping[str, Any]) -> str:
        """Of all that its rows depend on."""
        chosen = choose(len(self.data), self.images, how["seed"])
        parts = (
            {name: (model.spec, model_fingerprint(model)) for name, model in self.models.items()},
            [one.spec + one.fingerprint for one in self.threats],
            self.data.fingerprint(chosen),
            {name: value for name, value in how.items() if name != "workers"},
        )
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Wanted:
    """What there is to measure."""

    patches: PatchSet
    data: Data
    models: dict[str, Model]  # those that the patches were made on first, then those that were held out
    beside: dict[str, PatchSet]  # other sets, by name
    corruptions: tuple[Threat, ...]
    attack: Threat
    radii: tuple[float, ...]
    marker: str  # aruco, qr or none
    n: int
    few: int
    each_patch: bool
    seed: int


def parts(wanted: Wanted) -> list[Part]:
    """In order of what one wants to know first."""
    own = wanted.patches
    everything = wanted.corruptions
    found = [
        _part(wanted, "none", Nothing(own), everything),
        _part(wanted, "own", Own(own), everything),
        _part(wanted, "grey", Grey(own), everything),
        _part(wanted, "random", Noise(own, wanted.seed), everything),
        _part(wanted, "alone", Alone(own, wanted.seed), everything),
    ]
    if not own.universal:
        found += [
            _part(wanted, "wrong", Wrong(own, wanted.seed), everything),
            _part(wanted, "permuted", Permuted(own, wanted.seed), everything),
            *_read(wanted),
        ]
    found += [one for name, patches in wanted.beside.items() for one in others(wanted, name, patches)]
    if not own.universal:
        found += _without_labels(wanted)
    found += [*_attacked(wanted), *_disturbed(wanted)]
    if wanted.each_patch and not own.universal:
        each = EachPatch(wanted.data, own, choose(len(wanted.data), wanted.few, wanted.seed))
        found.append(Part("each-patch", each, wanted.models, (), None))
    return found


def others(wanted: Wanted, name: str, patches: PatchSet) -> list[Part]:
    """Of another set of patches what its own accuracy must not be shown without."""
    wears: dict[str, Wear] = {"own": Own(patches), "alone": Alone(patches, wanted.seed)}
    if not patches.universal:
        wears["wrong"] = Wrong(patches, wanted.seed)
    found = [_part(wanted, f"{name}-{what}", wear, wanted.corruptions) for what, wear in wears.items()]
    return [*found, _part(wanted, f"{name}-own-attacked", wears["own"], (wanted.attack,), few=True)]


def of_models(wanted: Wanted, models: dict[str, Model], name: str) -> list[Part]:
    """Other models than those at hand, without patches and with them."""
    own, few = wanted.patches, replace(wanted, models=models)
    wears: dict[str, Wear] = {"none": Nothing(own), "own": Own(own), "wrong": Wrong(own, wanted.seed)}
    found = [_part(few, f"{name}-{what}", wear, wanted.corruptions) for what, wear in wears.items()]
    return [*found, _part(few, f"{name}-own-attacked", Own(own), (wanted.attack,), few=True)]


def _part(
    wanted: Wanted, name: str, wear: Wear, threats: Sequence[Threat], few: bool = False, models: Any = None
) -> Part:
    data = Wearing(wanted.data, wear, name)
    return Part(name, data, models or wanted.models, tuple(threats), wanted.few if few else wanted.n)


def _read(wanted: Wanted) -> list[Part]:
    """What the label is worth that a patch prints: read by machines that look at nothing else."""
    own, bars = wanted.patches, barcode(wanted.patches, seed=wanted.seed)
    known: dict[str, tuple[PatchSet, Model]] = {
        "own-read": (own, _named(MatchedFilter(own), FILTER)),
        "barcode-read": (bars, _named(MatchedFilter(bars), FILTER)),
    }
    if wanted.marker != "none":
        marks = marker(own, wanted.marker)
        known["marker-read"] = (marks, _named(MarkerReader(marks, wanted.marker), DECODER))
    found = []
    for name, (patches, reader) in known.items():
        found.append(_part(wanted, name, Own(patches), wanted.corruptions, models={reader.spec: reader}))
        if reader.differentiable:
            attacked = _part(wanted, f"{name}-attacked", Own(patches), (wanted.attack,), True, {reader.spec: reader})
            found.append(attacked)
    return found


def _named(model: Model, name: str) -> Model:
    model.spec = name
    return model


def _without_labels(wanted: Wanted) -> list[Part]:
    rules: dict[str, Model] = {}
    for name, model in wanted.models.items():
        for rule, made in RULES.items():
            rules[f"{name}, {rule}"] = made(model, wanted.patches)
    plain = Nothing(wanted.patches)
    found = [_part(wanted, "rules", plain, wanted.corruptions, few=True, models=rules)]
    quick = {name: rule for name, rule in rules.items() if name.endswith("two pass")}
    return [*found, _part(wanted, "rules-attacked", plain, (wanted.attack,), few=True, models=quick)]


def _attacked(wanted: Wanted) -> list[Part]:
    """After the patch was stuck on: all pixels at several radii, the object alone, the patch alone."""
    own, first = wanted.patches, wanted.data.batch(choose(len(wanted.data), 1, wanted.seed))
    there = own.laid(first.images, first.labels)[1][0, 0]  # (H, W)
    allowed: tuple[Threat, ...] = (
        *at_radii(wanted.attack, wanted.radii),
        Within(wanted.attack, (there < 1).float(), "object"),
        Within(wanted.attack, (there > 0).float(), "patch"),
    )
    return [
        _part(wanted, "none-attacked", Nothing(own), at_radii(wanted.attack, wanted.radii), few=True),
        _part(wanted, "own-attacked", Own(own), allowed, few=True),
        _part(wanted, "grey-attacked", Grey(own), (wanted.attack,), few=True),
    ]


def at_radii(attack: Threat, radii: Sequence[float]) -> tuple[Threat, ...]:
    """The attack at its own radius and at others."""
    if radii and not hasattr(attack, "eps"):
        raise UserError(f"{attack.spec} has no eps", "it is tried at several", "give pgd:eps=4/255, or no radii")
    found = {one.spec: one for one in (attack, *(replace(attack, eps=eps) for eps in radii))}  # type: ignore[type-var]
    return tuple(found.values())


def _disturbed(wanted: Wanted) -> list[Part]:
    """A patch that is not where it should be, not whole, or has another one beside it."""
    own, seed = wanted.patches, wanted.seed
    wears: dict[str, Wear] = {}
    for by, amounts in (("shift", SHIFTS), ("rotation", ROTATIONS), ("scale", SCALES)):
        for amount in amounts:
            grown = amount * (min(own.image_size) / 32 if by == "shift" else 1)  # in 32nds of an image
            wears[f"{by}-{amount:g}"] = Askew(own, by, grown, seed)  # type: ignore[arg-type]
    wears |= {f"peeled-{share:g}": Peeled(own, share, seed) for share in PEELED}
    if not own.universal:
        wears["second-patch"] = Beside(own, seed)
    return [_part(wanted, name, wear, wanted.corruptions[:1], few=True) for name, wear in wears.items()]


def read_threats(specs: Sequence[str | Threat], kinds: tuple[str, ...], what: str) -> tuple[Threat, ...]:
    """Threats of one kind, once each."""
    found: dict[str, Threat] = {}
    for one in specs:
        made = threat(one)
        if made.kind not in kinds:
            raise UserError(f"{made.spec} is no {what}", f"it is of the kind {made.kind}")
        found[made.spec] = made
    return tuple(found.values())
