"""The tables: the headline with all its controls, each pair on the same images, other sets, attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vallum.defences.defensive_patches.rules import RULES
from vallum.defences.defensive_patches.wearing import Beside, Wrong
from vallum.evaluation.patches.counting import CLEAN, Counting
from vallum.evaluation.sections import Rates
from vallum.evaluation.statistics import Interval, difference, share

Cell = np.ndarray | tuple[Interval, float] | None  # a share for each image; a difference and its p; nothing
EXPLAINED = (
    "Hijacked: taken for the class of another's patch, which the object wears. Selectivity: right with its own patch "
    "minus hijacked; it is high for a patch that does nothing too, so read it beside the gain, own minus no patch. "
    "Patch alone: on pictures without an object. Label-free: nobody says whose patch it is."
)


def headline(c: Counting, threats: Sequence[str], title: str, says: tuple[str, ...] = ()) -> Rates:
    """A row for each model, and beneath them the machines that read nothing but the label."""
    rows: dict[str, dict[str, Cell]] = {}
    for model in c.models:
        own, none = c.right("own", model, threats), c.right("none", model, threats)
        hijack = c.hijacked("wrong", model, threats)
        found: dict[str, Cell] = {
            "selectivity": minus(own, hijack),
            "gain": minus(own, none),
            "own patch": own,
            "hijacked": hijack,
            "no patch": none,
            "patch alone": c.right("alone", model, threats),
            "right in spite of another's": c.right("wrong", model, threats),
            "label-free: diagonal": c.right("rules", f"{model}, diagonal", threats),
            "label-free: two pass": c.right("rules", f"{model}, two pass", threats),
        }
        if list(threats) == [CLEAN]:
            found["attacked, no patch"] = c.right("none-attacked", model, [c.attack])
            found["attacked, own patch"] = c.right("own-attacked", model, [c.attack])
            found["attacked on the object only"] = c.right("own-attacked", model, [on(c.attack, "object")])
        rows[c.called(model)] = found
    columns = list(next(iter(rows.values())))
    for name, (part, reader) in c.readers.items():
        attacked = c.right(f"{part}-attacked", reader, [c.attack]) if list(threats) == [CLEAN] else None
        rows[name] = {"own patch": c.right(part, reader, threats), "attacked, own patch": attacked}
    return table(title, "model", columns, rows, f"{c.images(threats)} {EXPLAINED}", says)


def controls(c: Counting, threats: Sequence[str], title: str) -> Rates:
    """A row for each thing that an image can wear, a column for each model."""
    rows: dict[str, Mapping[str, Cell]] = {
        name: c.each(lambda model, part=part: c.right(part, model, threats))  # type: ignore[misc]
        for name, part in c.arms.items()
    }
    if c.part("wrong"):
        rows["hijacked by another's patch"] = c.each(lambda model: c.hijacked("wrong", model, threats))
    return table(title, "worn", c.columns, rows, c.images(threats))


def pairs(c: Counting, threats: Sequence[str], title: str) -> Rates:
    """How much more often a model is right with its own patch than with each control, on the same images."""
    rows: dict[str, Mapping[str, Cell]] = {}
    against = {name: (part, "") for name, part in c.arms.items() if part != "own"} | c.readers
    for name, (part, reader) in against.items():
        rows[f"own minus {name}"] = {
            c.called(model): minus(c.right("own", model, threats), c.right(part, reader or model, threats))
            for model in c.models
        }
    for rule in RULES if c.part("rules") else ():
        found = {model: c.without_labels(model, rule, threats) for model in c.models}
        rows[f"label-free: {rule} minus nothing, {c.wanted.few} images"] = {
            c.called(model): None if both is None else minus(*both) for model, both in found.items()
        }
    test = "McNemar's exact test" if len(threats) == 1 else "Wilcoxon's signed ranks, intervals by bootstrap"
    return table(title, "", c.columns, rows, f"{c.images(threats)} p by {test}, not corrected for how many there are.")


def sets(c: Counting) -> Rates | None:
    """These patches beside other sets: what each gains, and what it passes off."""
    if not c.wanted.beside:
        return None
    rows: dict[str, Mapping[str, Cell]] = {}
    for name, patches in {"these": c.wanted.patches, **c.wanted.beside}.items():
        prefix = "" if name == "these" else f"{name}-"
        wear = Wrong(patches, c.wanted.seed)
        for who, models in c.groups.items():
            own = c.over(models, lambda m, p=prefix: c.right(f"{p}own", m, c.corrupted))  # type: ignore[misc]
            none = c.over(models, lambda m: c.right("none", m, c.corrupted))
            hijack = c.over(models, lambda m, p=prefix, w=wear: c.hijacked(f"{p}wrong", m, c.corrupted, w))  # type: ignore[misc]
            rows[name if len(c.groups) == 1 else f"{name}, {who}"] = {
                "selectivity": minus(own, hijack),
                "own patch": own,
                "gain over no patch": minus(own, none),
                "hijacked": hijack,
                "patch alone": c.over(models, lambda m, p=prefix: c.right(f"{p}alone", m, c.corrupted)),  # type: ignore[misc]
                "clean": c.over(models, lambda m, p=prefix: c.right(f"{p}own", m, [CLEAN])),  # type: ignore[misc]
                "attacked": c.over(models, lambda m, p=prefix: c.right(f"{p}own-attacked", m, [c.attack])),  # type: ignore[misc]
            }
    note = f"Means over the models. {c.images(c.corrupted)} Attacked: {c.attack}, all pixels, clean images."
    return table("Sets of patches side by side", "patches", list(next(iter(rows.values()))), rows, note)


def attacks(c: Counting) -> Rates:
    """Which pixels were attacked."""
    arms = {
        "own patch, all pixels": ("own-attacked", c.attack),
        "own patch, object only": ("own-attacked", on(c.attack, "object")),
        "own patch, patch only": ("own-attacked", on(c.attack, "patch")),
        "no patch, all pixels": ("none-attacked", c.attack),
        "grey, all pixels": ("grey-attacked", c.attack),
        **{f"{name}: own, all pixels": (f"{name}-own-attacked", c.attack) for name in c.wanted.beside},
    }
    rows: dict[str, Mapping[str, Cell]] = {
        what: c.each(lambda model, part=part, spec=spec: c.right(part, model, [spec]))  # type: ignore[misc]
        for what, (part, spec) in arms.items()
        if c.part(part)
    }
    if c.part("rules-attacked"):
        two = c.each(lambda model: c.right("rules-attacked", f"{model}, two pass", [c.attack]))
        rows["label-free: two pass, all pixels"] = two
    note = f"{c.attack} on the image as it is worn, on {c.wanted.few} images; of a defence the worst over its surfaces."
    return table("Attacks, by the pixels that they may touch", "worn", c.columns, rows, note)


def replaced(c: Counting) -> Rates | None:
    """The public patch of another class on the object: whichever an attacker likes."""
    rows: dict[str, Mapping[str, Cell]] = {}
    classes = len(c.wanted.patches.classes)
    for model in c.models:
        found: dict[str, Cell] = {}
        if (one := c.part("each-patch").get((model, CLEAN))) is not None:
            said, labels = one.said.reshape(-1, classes), one.labels.reshape(-1, classes)
            other = np.arange(classes)[None] != labels  # (images, patches)
            hits = (said == np.arange(classes)[None]) & other
            found["one in its place: taken for it"] = hits.sum(1) / (classes - 1)
            found["best of all in its place: taken for it"] = hits.any(1).astype(float)
            found["best of all in its place: not right"] = ((said != labels) & other).any(1).astype(float)
        if (second := c.part("second-patch").get((model, CLEAN))) is not None:
            wear = Beside(c.wanted.patches, c.wanted.seed)
            found["a smaller one within its own: taken for it"] = second.taken_for_worn(wear)
            found["the same: still right"] = second.right
        if found:
            rows[c.called(model)] = found
    if not rows:
        return None
    title, note = "Replacement: the public patch of another class on the object", f"{c.wanted.few} clean images."
    return table(title, "model", list(next(iter(rows.values()))), rows, note)


def retrained(c: Counting) -> Rates | None:
    """A model that learnt from images with their patches, beside the model as it was."""
    rows: dict[str, Mapping[str, Cell]] = {}
    for again in c.further:
        for model, prefix in ((again.removesuffix(", retrained"), ""), (again, "retrained-")):
            own, hijack = (
                c.right(f"{prefix}own", model, c.corrupted),
                c.hijacked(f"{prefix}wrong", model, c.corrupted),
            )
            rows[model] = {
                "selectivity": minus(own, hijack),
                "own patch": own,
                "hijacked": hijack,
                "no patch": c.right(f"{prefix}none", model, c.corrupted),
                "attacked, own patch": c.right(f"{prefix}own-attacked", model, [c.attack]),
            }
    if not rows:
        return None
    columns = list(next(iter(rows.values())))
    return table("Retrained on images with their patches", "model", columns, rows, c.images(c.corrupted))


def minus(one: np.ndarray | None, other: np.ndarray | None) -> Cell:
    """How much more `one` has, on the images of the two, which must be the same."""
    return None if one is None or other is None else difference(other, one)


def on(attack: str, where: str) -> str:
    """What `Within` calls an attack."""
    return f"{attack} on the {where} only"


def table(
    title: str,
    row_is: str,
    columns: Sequence[str],
    rows: Mapping[str, Mapping[str, Cell]],
    note: str,
    says: tuple[str, ...] = (),
) -> Rates:
    numbers = [[_number(row.get(column)) for column in columns] for row in rows.values()]
    kept = [place for place in range(len(columns)) if any(row[place][0] is not None for row in numbers)]
    value, low, high, p = (tuple(tuple(row[at][part] for at in kept) for row in numbers) for part in range(4))
    signed = all(not isinstance(one, np.ndarray) for row in rows.values() for one in row.values())
    named = tuple(columns[place] for place in kept)
    return Rates(title, row_is, tuple(rows), named, value, low, high, p, signed, says, note)


def _number(cell: Cell) -> tuple[float | None, float | None, float | None, float | None]:
    """Value, low, high and p."""
    if cell is None:
        return None, None, None, None
    at, p = cell if isinstance(cell, tuple) else (share(cell), None)
    return float(at.value), float(at.low), float(at.high), p
