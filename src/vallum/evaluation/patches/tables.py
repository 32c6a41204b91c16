"""What the parts say together: the headline with all its controls, pairs, matrices and curves, as sections of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from vallum.defences.defensive_patches.wearing import Wear, Wrong
from vallum.evaluation import sections
from vallum.evaluation.patches.answers import Answers, Found, answers
from vallum.evaluation.patches.parts import (
    DECODER,
    FILTER,
    PARTS,
    PEELED,
    ROTATIONS,
    SCALES,
    SHIFTS,
    Wanted,
    at_radii,
)
from vallum.evaluation.statistics import Interval, difference, rate, share

CLEAN = "clean"
Number = tuple[Interval, float | None]  # and p, of a paired test


class Tables:
    """Reads the parts of a run that are there, and says what they come to."""

    def __init__(self, out: Path, wanted: Wanted, held_out: Sequence[str], further: Sequence[str] = ()) -> None:
        self.out, self.wanted, self.held_out = out, wanted, set(held_out)
        self.further = list(further)  # models that were made for comparison: retrained ones
        self.corrupted = [one.spec for one in wanted.corruptions]
        self._found: dict[str, Found] = {}

    def part(self, name: str) -> Found:
        if name not in self._found:
            folder = self.out if name == "none" else self.out / PARTS / name
            self._found[name] = answers(folder) if (folder / "plan.json").is_file() else {}
        return self._found[name]

    @cached_property
    def models(self) -> list[str]:
        return list(self.wanted.models)

    def called(self, model: str) -> str:
        return f"{model} (held out)" if model in self.held_out else model

    # What is counted: an array with a number in [0, 1] for each image, its mean over the threats.

    def right(self, part: str, model: str, threats: Sequence[str]) -> np.ndarray | None:
        return self._mean(part, model, threats, lambda one: one.right)

    def hijacked(self, part: str, model: str, threats: Sequence[str], wear: Wear) -> np.ndarray | None:
        return self._mean(part, model, threats, lambda one: one.taken_for_worn(wear))

    def _mean(self, part: str, model: str, threats: Sequence[str], of: object) -> np.ndarray | None:
        found = self.part(part)
        there: list[Answers] = [found[model, spec] for spec in threats if (model, spec) in found]
        if not there or len(there) < len(threats):
            return None
        return np.mean([of(one) for one in there], 0)  # type: ignore[operator]

    @property
    def wrong(self) -> Wrong:
        return Wrong(self.wanted.patches, self.wanted.seed)

    def headline(self, threats: Sequence[str], title: str, says: tuple[str, ...] = ()) -> sections.Rates:
        """A row for each model, and beneath them the machines that read nothing but the label."""
        attack, rows = self.wanted.attack.spec, {}
        on_object = f"{attack} on the object only"
        for model in self.models:
            own, hijack = self.right("own", model, threats), self.hijacked("wrong", model, threats, self.wrong)
            found = {
                "own patch": own,
                "no patch": self.right("none", model, threats),
                "patch alone": self.right("alone", model, threats),
                "hijacked": hijack,
                "selectivity": None if own is None or hijack is None else difference(hijack, own),
                "right in spite": self.right("wrong", model, threats),
                "label-free: diagonal": self.right("rules", f"{model}, diagonal", threats),
                "two pass": self.right("rules", f"{model}, two pass", threats),
            }
            if threats == [CLEAN]:
                found["attacked, no patch"] = self.right("none-attacked", model, [attack])
                found["attacked, own patch"] = self.right("own-attacked", model, [attack])
                found["object alone attacked"] = self.right("own-attacked", model, [on_object])
            rows[self.called(model)] = found
        columns = list(next(iter(rows.values())))
        for name, (part, reader) in self.readers.items():
            attacked = self.right(f"{part}-attacked", reader, [attack]) if threats == [CLEAN] else None
            rows[name] = {"own patch": self.right(part, reader, threats), "attacked, own patch": attacked}
        return _rates(title, "model", columns, rows, says, f"{self._images(threats)} {EXPLAINED}")

    @property
    def readers(self) -> dict[str, tuple[str, str]]:
        """Machines that look at no object: the part, and what the model is called there."""
        found = {
            "these patches, by matched filter": ("own-read", FILTER),
            "barcode, by matched filter": ("barcode-read", FILTER),
        }
        if self.wanted.marker != "none":
            found[f"{self.wanted.marker} marker, by OpenCV"] = ("marker-read", DECODER)
        return {name: one for name, one in found.items() if self.part(one[0])}

    def controls(self, threats: Sequence[str], title: str) -> sections.Rates:
        """A row for each thing that an image can wear, a column for each model."""
        rows: dict[str, dict[str, np.ndarray | None]] = {}
        for name, part in self.arms.items():
            rows[name] = {self.called(model): self.right(part, model, threats) for model in self.models}
        if self.part("wrong"):
            rows["hijacked by another's patch"] = {
                self.called(model): self.hijacked("wrong", model, threats, self.wrong) for model in self.models
            }
        return _rates(title, "worn", [self.called(one) for one in self.models], rows, (), self._images(threats))

    @property
    def arms(self) -> dict[str, str]:
        """What an image can wear, by its part."""
        named = {
            "own patch": "own", "nothing": "none", "grey": "grey", "random colours": "random", "patch alone": "alone",
            "another's patch: right in spite": "wrong", "patches permuted": "permuted",
        }  # fmt: skip
        for name in self.wanted.beside:
            named |= {f"{name}: own": f"{name}-own", f"{name}: alone": f"{name}-alone"}
            named |= {f"{name}: another's, right in spite": f"{name}-wrong"}
        return {name: part for name, part in named.items() if self.part(part)}

    def pairs(self, threats: Sequence[str], title: str) -> sections.Rates:
        """How much more often a model is right with its own patch than with each control, on the same images."""
        rows: dict[str, dict[str, Number | None]] = {}
        for name, part in self.arms.items():
            if part == "own":
                continue
            for model in self.models:
                own, other = (self.right(one, model, threats) for one in ("own", part))
                pair = None if own is None or other is None else difference(other, own)
                rows.setdefault(f"own minus {name}", {})[self.called(model)] = pair
        for name, (part, reader) in self.readers.items():
            for model in self.models:
                own, other = self.right("own", model, threats), self.right(part, reader, threats)
                pair = None if own is None or other is None else difference(other, own)
                rows.setdefault(f"own minus {name}", {})[self.called(model)] = pair
        test = "McNemar's exact test" if len(threats) == 1 else "Wilcoxon's signed ranks, bootstrap intervals"
        note = f"{self._images(threats)} p by {test}, not corrected for how many there are."
        return _rates(title, "", [self.called(one) for one in self.models], rows, (), note)

    def sets(self) -> tuple[sections.Rates, sections.Frontier] | None:
        """These patches beside other sets: what each gains, and what it passes off."""
        if not self.wanted.beside:
            return None
        rows: dict[str, dict[str, np.ndarray | Number | None]] = {}
        points = []
        of = {"these": ("own", "alone", "wrong", "own-attacked", self.wanted.patches)}
        of |= {name: (f"{name}-own", f"{name}-alone", f"{name}-wrong", f"{name}-own-attacked", one)
               for name, one in self.wanted.beside.items()}  # fmt: skip
        for name, (own_part, alone_part, wrong_part, attacked_part, patches) in of.items():
            for who, models in self._groups.items():
                wear = Wrong(patches, self.wanted.seed)
                own, none, alone, hijack, attacked, plain = (
                    self._over(models, each)
                    for each in (
                        lambda m, p=own_part: self.right(p, m, self.corrupted),
                        lambda m: self.right("none", m, self.corrupted),
                        lambda m, p=alone_part: self.right(p, m, self.corrupted),
                        lambda m, p=wrong_part, w=wear: self.hijacked(p, m, self.corrupted, w),
                        lambda m, p=attacked_part: self.right(p, m, [self.wanted.attack.spec]),
                        lambda m, p=own_part: self.right(p, m, [CLEAN]),
                    )
                )
                if own is None:
                    continue
                rows[name if len(self._groups) == 1 else f"{name}, {who}"] = {
                    "clean": plain,
                    "corrupted": own,
                    "gain over no patch": None if none is None else difference(none, own),
                    "patch alone": alone,
                    "hijacked": hijack,
                    "selectivity": None if hijack is None else difference(hijack, own),
                    "attacked": attacked,
                }
                if who == "made on" and hijack is not None:
                    at = share(own)
                    points.append(sections.Point(name, float(hijack.mean()), at.value, at.low, at.high))
        columns = list(next(iter(rows.values())))
        note = f"Means over the models. {self._images(self.corrupted)} Attacked: {self.wanted.attack.spec}."
        table = _rates("Sets of patches side by side", "patches", columns, rows, (), note)
        cost, benefit = "hijacked by another's patch, as a share", "right with its own patch, corrupted"
        return table, sections.Frontier("Accuracy against hijack", cost, benefit, tuple(points), note=table.note)

    @property
    def _groups(self) -> dict[str, list[str]]:
        made = [one for one in self.models if one not in self.held_out]
        held = [one for one in self.models if one in self.held_out]
        return {name: models for name, models in (("made on", made), ("held out", held)) if models}

    def _over(self, models: Sequence[str], of: object) -> np.ndarray | None:
        found = [of(model) for model in models]  # type: ignore[operator]
        return None if any(one is None for one in found) else np.mean(found, 0)

    def matrices(self) -> list[sections.Matrix]:
        """Object class by patch class: how often the patch's class is answered, and how often still the object's."""
        made = []
        classes = self.wanted.patches.classes
        for who, models in self._groups.items():
            found = [one for model in models if (one := self.part("each-patch").get((model, CLEAN))) is not None]
            if not found:
                continue
            hijack, kept = (np.full((len(classes), len(classes)), np.nan) for _ in range(2))
            labels, worn = found[0].labels, found[0].keys % len(classes)
            taken = np.mean([one.said == worn for one in found], 0)
            right = np.mean([one.right for one in found], 0)
            for row in range(len(classes)):
                for column in range(len(classes)):
                    here = (labels == row) & (worn == column)
                    if here.any():
                        hijack[row, column], kept[row, column] = taken[here].mean(), right[here].mean()
            for title, values in (("Taken for the patch's class", hijack), ("Still taken for what it is", kept)):
                rows = tuple(tuple(None if np.isnan(v) else round(float(v), 4) for v in row) for row in values)
                note = f"Mean over {', '.join(models)}; {len(np.unique(found[0].keys // len(classes)))} images, clean. "
                made.append(sections.Matrix(
                    f"{title}, models {who}", "object", "patch", classes, classes, rows,
                    note=note + "On the diagonal each object wears its own patch.",
                ))  # fmt: skip
        return made

    def replaced(self) -> sections.Rates | None:
        """The public patch of another class on the object: whichever an attacker likes."""
        each, rows = self.part("each-patch"), {}
        classes = len(self.wanted.patches.classes)
        for model in self.models:
            one, second = each.get((model, CLEAN)), self.part("second-patch").get((model, CLEAN))
            found: dict[str, np.ndarray | Number | None] = {}
            if one is not None:
                said, labels = one.said.reshape(-1, classes), one.labels.reshape(-1, classes)
                other = np.arange(classes)[None] != labels
                hits = (said == np.arange(classes)[None]) & other
                found["any one patch in its place: taken for it"] = hits.sum(1) / (classes - 1)
                found["best of all patches: taken for one"] = hits.any(1).astype(float)
                found["best of all patches: not right"] = ((said != labels) & other).any(1).astype(float)
            if second is not None:
                from vallum.defences.defensive_patches.wearing import Beside

                found["own patch stays, another within: taken for it"] = second.taken_for_worn(
                    Beside(self.wanted.patches, self.wanted.seed)
                )
                found["the same: still right"] = second.right
            if found:
                rows[self.called(model)] = found
        if not rows:
            return None
        return _rates(
            "Replacement: another class's public patch",
            "model",
            list(next(iter(rows.values()))),
            rows,
            (),
            "Clean images.",
        )

    def attacks(self) -> list[sections.Section]:
        """Which pixels were attacked, and how strongly."""
        attack, made = self.wanted.attack.spec, []
        arms = {"own patch, all pixels": ("own-attacked", attack),
                "own patch, object only": ("own-attacked", f"{attack} on the object only"),
                "own patch, patch only": ("own-attacked", f"{attack} on the patch only"),
                "no patch, all pixels": ("none-attacked", attack), "grey, all pixels": ("grey-attacked", attack)}  # fmt: skip
        arms |= {f"{name}: own, all pixels": (f"{name}-own-attacked", attack) for name in self.wanted.beside}
        rows = {
            what: {self.called(model): self.right(part, model, [spec]) for model in self.models}
            for what, (part, spec) in arms.items() if self.part(part)
        }  # fmt: skip
        for rule in ("two pass",):
            named = {self.called(m): self.right("rules-attacked", f"{m}, {rule}", [attack]) for m in self.models}
            rows |= {f"label-free: {rule}, all pixels": named}
        note = f"{attack}, through the patch as it lies on the image, worst over all surfaces of a defence."
        made.append(
            _rates(
                "Attacks by the pixels that they may touch",
                "worn",
                [self.called(m) for m in self.models],
                rows,
                (),
                note,
            )
        )
        specs = {float(getattr(one, "eps", 0.0)): one.spec for one in at_radii(self.wanted.attack, self.wanted.radii)}
        radii = sorted(specs)
        if len(radii) > 1:
            lines = [
                line
                for what, part in (("own patch", "own"), ("no patch", "none"))
                for model in self.models
                if (
                    line := self._line(
                        f"{self.called(model)}, {what}",
                        [(part, CLEAN), *((f"{part}-attacked", specs[r]) for r in radii)],
                        model,
                    )
                )
            ]
            axis = (0.0, *(255 * one for one in radii))
            made.append(sections.Tradeoff("Attack by its radius", "eps in 1/255", axis, tuple(lines), None,
                                          "It must reach nothing at a large radius: else the attack is weak."))  # fmt: skip
        return made

    def _line(self, name: str, points: Sequence[tuple[str, str]], model: str) -> sections.Line | None:
        """On the images of the smallest of the parts."""
        found = [self.part(part).get((model, spec)) for part, spec in points]
        there = [one for one in found if one is not None]
        if len(there) < len(found):
            return None
        keys = min((one.keys for one in there), key=len)
        at = [share(one.at(keys).right) for one in there]
        values, low, high = (tuple(getattr(one, part) for one in at) for part in ("value", "low", "high"))
        return sections.Line(name, values, low, high)

    def disturbed(self) -> list[sections.Tradeoff]:
        """A patch that is not where it should be, or not whole."""
        made = []
        untouched = {"shift": 0.0, "rotation": 0.0, "scale": 1.0, "peeled": 0.0}
        titles = {"shift": ("Patch shifted", "32nds of the image's side"), "rotation": ("Patch turned", "degrees"),
                  "scale": ("Patch larger or smaller", "times"), "peeled": ("Part of the patch gone", "share of it")}  # fmt: skip
        amounts: dict[str, tuple[float, ...]] = {
            "shift": SHIFTS,
            "rotation": ROTATIONS,
            "scale": SCALES,
            "peeled": PEELED,
        }
        for by, (title, knob) in titles.items():
            axis = tuple(sorted({untouched[by], *amounts[by]}))
            lines = []
            for spec in (CLEAN, *self.corrupted[:1]):
                for model in self.models:
                    points = [("own" if at == untouched[by] else f"{by}-{at:g}", spec) for at in axis]
                    lines.append(self._line(f"{self.called(model)}, {spec}", points, model))
            there = tuple(one for one in lines if one is not None)
            if there:
                bare = ", ".join(self._bare(model) for model in self.models)
                made.append(
                    sections.Tradeoff(
                        title,
                        knob,
                        axis,
                        there,
                        untouched[by],
                        f"Right with its own patch; without any, clean: {bare}.",
                    )
                )
        return made

    def _bare(self, model: str) -> str:
        right = self.right("none", model, [CLEAN])
        return f"{model} {'' if right is None else f'{100 * right.mean():.1f} %'}"

    def by_corruption(self) -> sections.Matrix | None:
        """One by one, for means hide where a gain comes from."""
        arms = {"own": "own", "none": "none", "alone": "alone"}
        columns, rows = [], []
        for who, models in self._groups.items():
            columns += [f"{arm}, {who}" for arm in (*arms, "hijacked")]
        for spec in (CLEAN, *self.corrupted):
            row: list[float | None] = []
            for models in self._groups.values():
                for part in arms.values():
                    row.append(_of_mean(self._over(models, lambda m, p=part: self.right(p, m, [spec]))))  # noqa: B023
                row.append(_of_mean(self._over(models, lambda m: self.hijacked("wrong", m, [spec], self.wrong))))  # noqa: B023
            rows.append(tuple(row))
        return sections.Matrix(
            "Corruption by corruption", "corruption", "worn", (CLEAN, *self.corrupted), tuple(columns), tuple(rows)
        )

    def transfer(self) -> sections.Matrix | None:
        """Made on whom, right on whom: under corruptions, without and with the model itself among those it was made on."""
        rows = {
            "no patch": "none",
            "all of 'made on'": "own",
            **{f"{name}": f"{name}-own" for name in self.wanted.beside},
        }
        rows |= {f"all but {name}": f"without {name}-own" for name in self.models}
        values = {
            name: tuple(_of_mean(self.right(part, model, self.corrupted)) for model in self.models)
            for name, part in rows.items() if self.part(part)
        }  # fmt: skip
        if len(values) < 3:
            return None
        return sections.Matrix("Transfer: made on whom, right on whom", "made on", "model", tuple(values),
                               tuple(self.called(m) for m in self.models), tuple(values.values()), note=self._images(self.corrupted))  # fmt: skip

    def retrained(self) -> sections.Rates | None:
        """A model that learnt from images with their patches, beside the model as it was."""
        rows: dict[str, dict[str, np.ndarray | Number | None]] = {}
        for name in self.further:
            before = name.removesuffix(", retrained")
            for model, prefix in ((before, ""), (name, "retrained-")):
                own, hijack = (
                    self.right(f"{prefix}own", model, self.corrupted),
                    self.hijacked(f"{prefix}wrong", model, self.corrupted, self.wrong),
                )
                if own is not None:
                    rows[model] = {
                        "own patch": own, "no patch": self.right(f"{prefix}none", model, self.corrupted),
                        "hijacked": hijack, "selectivity": None if hijack is None else difference(hijack, own),
                        "attacked, own patch": self.right(f"{prefix}own-attacked", model, [self.wanted.attack.spec]),
                    }  # fmt: skip
        if not rows:
            return None
        return _rates(
            "Retrained on images with their patches",
            "model",
            list(next(iter(rows.values()))),
            rows,
            (),
            self._images(self.corrupted),
        )

    def says(self) -> tuple[str, ...]:
        """A sentence for each model: never what its own patch does without what another's does."""
        said = []
        for model in self.models:
            own, none, alone = (self.right(part, model, self.corrupted) for part in ("own", "none", "alone"))
            hijack = self.hijacked("wrong", model, self.corrupted, self.wrong)
            if own is None or none is None or alone is None:
                continue
            gain, p = difference(none, own)
            sentence = f"{self.called(model)}: {_points(gain)} by its own patch"
            if hijack is not None:
                selectivity, _ = difference(hijack, own)
                sentence += (
                    f", selectivity {_points(selectivity)}: {_percent(own)} right with its own, {_percent(hijack)} "
                    "taken for the class of another's"
                )
            sentence += f", {_percent(none)} right without, {_percent(alone)} with the patch and no object"
            said.append(
                f"{sentence} (mean over {len(self.corrupted)} corruptions). {verdict(own, none, alone, hijack, p)}"
            )
        return tuple(said)

    def _images(self, threats: Sequence[str]) -> str:
        under = "Clean." if threats == [CLEAN] else f"Mean over {', '.join(threats)}, after the patch."
        return f"{self.wanted.n} images, attacks and rules on {self.wanted.few} of them. {under}"

    def all(self) -> list[sections.Section]:
        """Every section that the parts which are there are enough for."""
        found: list[sections.Section | None] = [
            self.headline(self.corrupted, "Defensive patches: headline, under corruptions", self.says()),
            self.headline([CLEAN], "Defensive patches: headline, clean and attacked"),
            self.controls(self.corrupted, "Controls under corruptions"),
            self.controls([CLEAN], "Controls on clean images"),
            self.pairs(self.corrupted, "Its own patch against each control, under corruptions"),
            self.pairs([CLEAN], "Its own patch against each control, clean"),
            *(self.sets() or ()),
            *self.attacks(),
            self.replaced(),
            self.retrained(),
            *self.disturbed(),
            self.by_corruption(),
            self.transfer(),
            *self.matrices(),
        ]
        return [one for one in found if one is not None]


EXPLAINED = (
    "Hijacked: taken for the class of the patch of another class that the object wears. Selectivity: right with its own "
    "patch minus hijacked. Patch alone: on pictures without an object. Label-free: nobody tells the class of the patch."
)


def verdict(own: np.ndarray, none: np.ndarray, alone: np.ndarray, hijack: np.ndarray | None, p: float) -> str:
    """What kind of help it is, if any.

    >>> verdict(np.ones(90), np.zeros(90), np.ones(90), np.ones(90), 0.0)
    'The gain is the printed label: the patch does as well without the object.'
    """
    gain = own.mean() - none.mean()
    if p > 0.05 or gain <= 0:
        return "Its own patch gains nothing that chance would not."
    if alone.mean() >= 0.9 * own.mean():
        return "The gain is the printed label: the patch does as well without the object."
    if hijack is not None and hijack.mean() > gain:
        return "It passes off more than it gains."
    return "It gains more than it passes off."


def _of_mean(values: np.ndarray | None) -> float | None:
    return None if values is None else round(float(values.mean()), 4)


def _percent(values: np.ndarray) -> str:
    return f"{100 * values.mean():.1f} %"


def _points(at: Interval) -> str:
    return f"{100 * at.value:+.1f} points [{100 * at.low:+.1f}, {100 * at.high:+.1f}]"


def _rates(
    title: str,
    row_is: str,
    columns: Sequence[str],
    rows: dict[str, dict[str, np.ndarray | Number | None]]
    | dict[str, dict[str, np.ndarray | None]]
    | dict[str, dict[str, Number | None]],
    says: tuple[str, ...],
    note: str,
) -> sections.Rates:
    """A table of arrays (a share for each image) and of differences."""
    numbers: list[list[tuple[float, float, float, float | None] | None]] = []
    for row in rows.values():
        cells: list[tuple[float, float, float, float | None] | None] = []
        for column in columns:
            found = row.get(column)
            if found is None:
                cells.append(None)
            else:
                at, p = found if isinstance(found, tuple) else (share(found), None)
                cells.append((at.value, at.low, at.high, p))
        numbers.append(cells)
    value, low, high, p = (
        tuple(tuple(None if one is None or one[place] is None else float(one[place]) for one in row) for row in numbers)
        for place in range(4)
    )
    signed = any(isinstance(one, tuple) for row in rows.values() for one in row.values()) and not any(
        isinstance(one, np.ndarray) for row in rows.values() for one in row.values()
    )
    return sections.Rates(title, row_is, tuple(rows), tuple(columns), value, low, high, p, signed, says, note)
